// Attention operators, request by request in float32.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/softmax.h>

#include <cmath>
#include <vector>

namespace sim {

// What aclnnFusedInferAttentionScore computes of the packed layout "TND": requests one after another, without padding.
struct PackedAttention {
    at::Tensor query;                  // tokens x heads x head size
    at::Tensor key, value;             // tokens x KV heads x head size, or blocks x block size x (KV heads * head size)
    at::Tensor block_table;            // requests x blocks; absent where key and value are packed as the query is
    std::vector<int64_t> query_ends;   // where each request ends
    std::vector<int64_t> key_lengths;  // of each request in its blocks, or where each request ends
    int64_t kv_heads = 0;
    double scale = 1;
    bool causal = false;               // the last query sees the last key

    void run(const at::Tensor& out) const {
        out.zero_();
        int64_t begin = 0;
        for (size_t request = 0; request < query_ends.size(); ++request) {
            int64_t end = query_ends[request];
            at::Tensor keys = of_request(key, request), values = of_request(value, request);
            if (end > begin && keys.size(0) > 0) {
                at::Tensor target = out.slice(0, begin, end);
                target.copy_(attend(query.slice(0, begin, end), keys, values).view(target.sizes()));
            }
            begin = end;
        }
    }

private:
    at::Tensor of_request(const at::Tensor& cache, size_t request) const {
        int64_t length = key_lengths.at(request);
        if (!block_table.defined()) return cache.slice(0, request ? key_lengths[request - 1] : 0, length);
        int64_t block_size = cache.size(1), blocks = (length + block_size - 1) / block_size;
        at::Tensor chosen = cache.index_select(0, block_table[static_cast<int64_t>(request)].slice(0, 0, blocks).to(at::kLong));
        return chosen.reshape({blocks * block_size, kv_heads, cache.size(2) / kv_heads}).slice(0, 0, length);
    }

    at::Tensor attend(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values) const {
        int64_t group = queries.size(1) / kv_heads, seen = keys.size(0) - queries.size(0);
        auto by_head = [](const at::Tensor& x) { return x.to(at::kFloat).transpose(0, 1); };
        at::Tensor k = by_head(keys).repeat_interleave(group, 0), v = by_head(values).repeat_interleave(group, 0);
        at::Tensor scores = at::matmul(by_head(queries), k.transpose(1, 2)) * scale;
        if (causal) scores.masked_fill_(at::ones({queries.size(0), keys.size(0)}, at::kBool).triu(seen + 1), -INFINITY);
        return at::matmul(at::softmax(scores, -1), v).transpose(0, 1).contiguous();
    }
};

// Writes each token's key or value to its slot of a cache of blocks; a negative slot is none.
inline void scatter_to_slots(const at::Tensor& tokens, const at::Tensor& cache, const at::Tensor& slots) {
    at::Tensor rows = cache.view({cache.size(0) * cache.size(1), -1}), wide = slots.to(at::kLong);
    at::Tensor valid = wide.ge(0).nonzero().flatten();
    rows.index_copy_(0, wide.index_select(0, valid), tokens.reshape({tokens.size(0), -1}).index_select(0, valid));
}

}  // namespace sim
