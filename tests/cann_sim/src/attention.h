// Attention operators, request by request in float32.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/softmax.h>

#include <cmath>
#include <string>
#include <vector>

namespace sim {

// What aclnnFusedInferAttentionScore computes, with a causal mask or none, in the layouts of `run_as`.
struct PackedAttention {
    at::Tensor query;                  // tokens x heads x head size
    at::Tensor key, value;             // tokens x KV heads x head size, or a cache: see `by_slot`
    at::Tensor query_rope, key_rope;   // further elements of each head, where they are apart
    at::Tensor block_table;            // requests x blocks; absent where key and value are packed as the query is
    std::vector<int64_t> query_ends;   // where each request ends
    std::vector<int64_t> key_lengths;  // of each request in its blocks, or where each request ends
    int64_t kv_heads = 0;
    double scale = 1;
    bool causal = false;               // the last query sees the last key

    // In `layout`, that of the query and after an underscore that of the result: T tokens, N heads, B requests with S
    // tokens each, D the head size.
    void run_as(const std::string& layout, const at::Tensor& out, const at::Tensor& lse) {
        if (layout == "TND") return run(out, lse);
        if (layout == "TND_NTD") return run(out.transpose(0, 1), lse);
        TORCH_CHECK(layout == "BNSD_NBSD" && query.size(2) == 1, "attention in layout ", layout, " is not simulated");
        query = query.squeeze(2);
        if (query_rope.defined()) query_rope = query_rope.squeeze(2);
        for (int64_t request = 0; request < query.size(0); ++request) query_ends.push_back(request + 1);
        run(out.squeeze(2).transpose(0, 1), lse);
    }

    void run(const at::Tensor& out, const at::Tensor& lse) const {
        out.zero_();
        int64_t begin = 0;
        for (size_t request = 0; request < query_ends.size(); ++request) {
            int64_t end = query_ends[request];
            at::Tensor keys = of_request(key, request), values = of_request(value, request);
            if (key_rope.defined()) keys = at::cat({keys, of_request(key_rope, request)}, -1);
            if (end > begin && keys.size(0) > 0) {
                at::Tensor queries = query.slice(0, begin, end);
                if (query_rope.defined()) queries = at::cat({queries, query_rope.slice(0, begin, end)}, -1);
                at::Tensor scores = scored(queries, keys), target = out.slice(0, begin, end);
                target.copy_(weighted(scores, values).view(target.sizes()));
                if (lse.defined()) lse.slice(0, begin, end).copy_(at::logsumexp(scores, {-1}).t().unsqueeze(-1));
            }
            begin = end;
        }
    }

private:
    // A cache of blocks x block size x (KV heads * head size), or of blocks x KV heads x block size x head size.
    at::Tensor by_slot(const at::Tensor& cache) const {
        if (cache.dim() == 4) return cache.transpose(1, 2);
        return cache.view({cache.size(0), cache.size(1), kv_heads, -1});
    }

    at::Tensor of_request(const at::Tensor& given, size_t request) const {
        int64_t length = key_lengths.at(request);
        if (!block_table.defined()) return given.slice(0, request ? key_lengths[request - 1] : 0, length);
        at::Tensor cache = by_slot(given);
        int64_t block_size = cache.size(1), blocks = (length + block_size - 1) / block_size;
        at::Tensor chosen = cache.index_select(0, block_table[static_cast<int64_t>(request)].slice(0, 0, blocks).to(at::kLong));
        return chosen.flatten(0, 1).slice(0, 0, length);
    }

    at::Tensor by_head(const at::Tensor& x) const { return x.to(at::kFloat).transpose(0, 1); }

    at::Tensor scored(const at::Tensor& queries, const at::Tensor& keys) const {
        int64_t group = queries.size(1) / kv_heads, seen = keys.size(0) - queries.size(0);
        at::Tensor scores = at::matmul(by_head(queries), by_head(keys).repeat_interleave(group, 0).transpose(1, 2)) * scale;
        if (causal) scores.masked_fill_(at::ones({queries.size(0), keys.size(0)}, at::kBool).triu(seen + 1), -INFINITY);
        return scores;
    }

    at::Tensor weighted(const at::Tensor& scores, const at::Tensor& values) const {
        at::Tensor v = by_head(values).repeat_interleave(scores.size(0) / kv_heads, 0);
        return at::matmul(at::softmax(scores, -1), v).transpose(0, 1).contiguous();
    }
};

// Whether CANN's `sparse_mode` hides keys behind the query; refuses other masks, and any of `extras` that is given.
inline bool is_causal(int64_t sparse_mode, const at::Tensor& mask, const std::vector<at::Tensor>& extras) {
    bool causal = sparse_mode == 3, open = sparse_mode == 0 && !mask.defined();
    TORCH_CHECK(causal || open, "attention in sparse mode ", sparse_mode, " is not simulated");
    for (const at::Tensor& extra : extras)
        TORCH_CHECK(!extra.defined(), "attention with quantisation, padding, a shift, a prefix or a sink is not simulated");
    return causal;
}

// Writes each token's key or value to its slot of a cache of blocks; a negative slot is none.
inline void scatter_to_slots(const at::Tensor& tokens, const at::Tensor& cache, const at::Tensor& slots) {
    at::Tensor rows = cache.view({cache.size(0) * cache.size(1), -1}), wide = slots.to(at::kLong);
    at::Tensor valid = wide.ge(0).nonzero().flatten();
    rows.index_copy_(0, wide.index_select(0, valid), tokens.reshape({tokens.size(0), -1}).index_select(0, valid));
}

// Rotates pairs of neighbours, which it puts into two halves.
inline at::Tensor rotated_neighbours(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
    at::Tensor pairs = x.unflatten(-1, {x.size(-1) / 2, 2}), first = pairs.select(-1, 0), second = pairs.select(-1, 1);
    return at::cat({first, second}, -1) * cos + at::cat({-second, first}, -1) * sin;
}

}  // namespace sim
