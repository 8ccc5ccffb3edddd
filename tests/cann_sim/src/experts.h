// Operators of mixtures of experts. What a device leaves as it was, beyond the rows that have a token, is zero here.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/where.h>

#include <limits>
#include <vector>

namespace sim {

// Sorts tokens by the experts first to last - 1 that they were given to: copies to `out`, a copy's row in it to `rows`
// (-1: the expert is another's), and how many each expert got to `counts`, from the beginning or alone.
struct ExpertRouting {
    at::Tensor x;        // tokens x hidden size
    at::Tensor experts;  // tokens x experts per token
    int64_t first = 0, last = 0;
    bool cumulative = false;

    void run(const at::Tensor& out, const at::Tensor& rows, const at::Tensor& counts) const {
        at::Tensor flat = experts.flatten().to(at::kLong), ours = flat.ge(first).logical_and(flat.lt(last));
        at::Tensor others = at::full_like(flat, std::numeric_limits<int64_t>::max());
        at::Tensor chosen = std::get<1>(at::where(ours, flat, others).sort(true, 0, false));
        int64_t copies = std::min(ours.sum().item<int64_t>(), out.size(0));
        at::Tensor order = chosen.slice(0, 0, copies);
        out.zero_();
        out.slice(0, 0, copies).copy_(x.index_select(0, order.floor_divide(experts.size(1))));
        rows.fill_(-1);
        rows.index_copy_(0, order, at::arange(copies, rows.options()));
        at::Tensor each = at::bincount(flat.masked_select(ours) - first, {}, last - first);
        counts.copy_(cumulative ? each.cumsum(0) : each);
    }
};

// Multiplies the rows of each expert by its weights; group_list says where each expert's rows end, or how many they are.
inline void grouped_matmul(const at::Tensor& x, const std::vector<at::Tensor>& weights, const at::Tensor& group_list,
                           bool counts, const at::Tensor& out) {
    at::Tensor ends = (counts ? group_list.cumsum(0) : group_list).to(at::kLong).contiguous();
    out.zero_();
    int64_t begin = 0;
    for (int64_t group = 0; group < ends.numel(); ++group) {
        int64_t end = std::min(ends.const_data_ptr<int64_t>()[group], x.size(0));
        at::Tensor weight = weights.size() == 1 ? weights[0].select(0, group) : weights[group];
        if (end > begin) out.slice(0, begin, end).copy_(at::matmul(x.slice(0, begin, end), weight));
        begin = std::max(begin, end);
    }
}

// Adds up what the experts of each token made of it, weighted where there are weights.
inline at::Tensor unpermuted(const at::Tensor& permuted, const at::Tensor& rows, const at::Tensor& weights) {
    at::Tensor wide = rows.to(at::kLong);
    int64_t each = weights.defined() ? weights.size(1) : 1;
    at::Tensor picked = permuted.index_select(0, wide.clamp_min(0)).to(at::kFloat);
    picked = picked.masked_fill(wide.lt(0).unsqueeze(-1), 0).view({-1, each, permuted.size(-1)});
    return (weights.defined() ? picked * weights.to(at::kFloat).unsqueeze(-1) : picked).sum(1);
}

// The best experts of each token, of the best groups, and their weights.
struct ExpertChoice {
    int64_t count = 0;
    int64_t best_groups = 1, groups = 1;
    bool by_sum_of_two = false;  // or by the largest of a group
    bool normalised = false;
    bool sigmoid = false;        // or softmax
    double factor = 1, epsilon = 0;

    void run(const at::Tensor& logits, const at::Tensor& bias, const at::Tensor& weights, const at::Tensor& chosen) const {
        at::Tensor wide = logits.to(at::kFloat), scores = sigmoid ? wide.sigmoid() : wide.softmax(-1);
        at::Tensor judged = bias.defined() ? scores + bias.to(at::kFloat) : scores;
        if (best_groups < groups) judged = judged.masked_fill(outside(judged), -std::numeric_limits<double>::infinity());
        at::Tensor best = std::get<1>(judged.topk(count, -1));
        at::Tensor picked = scores.gather(-1, best);
        if (normalised || sigmoid) picked = picked / (picked.sum(-1, true) + epsilon);
        weights.copy_(picked * factor);
        chosen.copy_(best);
    }

private:
    at::Tensor outside(const at::Tensor& judged) const {
        at::Tensor grouped = judged.view({judged.size(0), groups, -1});
        at::Tensor worth = std::get<0>(grouped.topk(by_sum_of_two ? 2 : 1, -1)).sum(-1);
        at::Tensor best = std::get<1>(worth.topk(best_groups, -1));
        at::Tensor out = at::full_like(worth, 1).scatter(-1, best, 0).to(at::kBool);
        return out.unsqueeze(-1).expand_as(grouped).reshape(judged.sizes());
    }
};

}  // namespace sim
