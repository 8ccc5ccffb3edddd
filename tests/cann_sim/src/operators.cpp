// aclnn's two phases, its argument objects, and the operators, which build.py writes from operators.txt.
#include "sim.h"

// Without this, ATen's headers bring all operators along, which takes longer to read than all else here.
#define AT_PER_OPERATOR_HEADERS
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>

#include "attention.h"
#include "experts.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

struct aclTensor {
    at::Tensor value;
    std::shared_ptr<std::vector<int64_t>> shape;  // of a result whose shape depends on values
};
struct aclScalar {
    at::Scalar value;
};
struct aclIntArray {
    std::vector<int64_t> value;
};
struct aclFloatArray {
    std::vector<float> value;
};
struct aclBoolArray {
    std::vector<bool> value;
};
struct aclTensorList {
    std::vector<at::Tensor> value;
};
struct aclScalarList {
    std::vector<at::Scalar> value;
};
struct aclOpExecutor {
    const char* name;
    sim::Work work;
};

using namespace sim;

using Tensor = at::Tensor;
using Tensors = std::vector<at::Tensor>;
using Scalar = at::Scalar;
using Bound = std::optional<at::Scalar>;
using Ints = std::vector<int64_t>;
using String = std::string;

// A result whose shape depends on values: the buffer that torch_npu gave, and where it looks for the shape.
struct Dynamic {
    at::Tensor buffer;
    std::shared_ptr<std::vector<int64_t>> shape;
};

static Tensor to_tensor(const aclTensor* given) { return given ? given->value : Tensor(); }
static Tensors to_tensors(const aclTensorList* given) { return given ? given->value : Tensors(); }
static Scalar to_scalar(const aclScalar* given) { return given ? given->value : Scalar(1); }
static Bound to_bound(const aclScalar* given) { return given ? Bound(given->value) : std::nullopt; }
static Ints to_ints(const aclIntArray* given) { return given ? given->value : Ints(); }
[[maybe_unused]] static String to_string(const char* given) { return given ? given : ""; }
static Dynamic to_dynamic(const aclTensor* given) { return {given->value, given->shape}; }

namespace {

at::ScalarType scalar_type(aclDataType type) {
    switch (type) {
        case ACL_FLOAT: return at::kFloat;
        case ACL_FLOAT16: return at::kHalf;
        case ACL_BF16: return at::kBFloat16;
        case ACL_DOUBLE: return at::kDouble;
        case ACL_INT8: return at::kChar;
        case ACL_INT16: return at::kShort;
        case ACL_INT32: return at::kInt;
        case ACL_INT64: return at::kLong;
        case ACL_UINT8: return at::kByte;
        case ACL_BOOL: return at::kBool;
        default: unimplemented(("a tensor of data type " + std::to_string(type)).c_str());
    }
}

at::Tensor tensor_at(void* address, at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType type) {
    return at::from_blob(address, sizes, strides, at::TensorOptions().dtype(type));
}

template <class Array, class T>
Array* array_of(const T* values, uint64_t count) {
    return new Array{decltype(Array::value)(values, values + count)};
}

}  // namespace

// Index tensors as ATen takes them: an absent or empty one selects everything.
static c10::List<std::optional<at::Tensor>> index_list(const Tensors& given) {
    c10::List<std::optional<at::Tensor>> indices;
    for (const Tensor& index : given) {
        bool absent = !index.defined() || index.numel() == 0;
        Tensor wide = !absent && index.scalar_type() == at::kInt ? index.to(at::kLong) : index;
        indices.push_back(absent ? std::nullopt : std::optional<at::Tensor>(wide));
    }
    return indices;
}

// Writes a result; shapes must agree, for a real operator would not broadcast its result.
static void write(const Tensor& out, const Tensor& result) {
    TORCH_CHECK(out.sizes() == result.sizes(), "result of shape ", result.sizes(), " for an output of ", out.sizes());
    out.copy_(result);
}

static void write(const Dynamic& out, const Tensor& result) {
    *out.shape = result.sizes().vec();
    tensor_at(out.buffer.data_ptr(), result.sizes(), result.contiguous().strides(), out.buffer.scalar_type()).copy_(result);
}

static void rms_norm(const Tensor& x, const Tensor& gamma, double epsilon, const Tensor& out, const Tensor& rstd) {
    Tensor wide = x.to(at::kFloat);
    Tensor inverse = (wide.pow(2).mean(-1, true) + epsilon).rsqrt();
    rstd.copy_(inverse.reshape(rstd.sizes()));
    write(out, wide * inverse * gamma.to(at::kFloat));
}

static int prepare(const char* name, uint64_t* workspace, aclOpExecutor** executor, Work work) {
    *workspace = 0;
    *executor = new aclOpExecutor{name, std::move(work)};
    return 0;
}

static int execute(aclOpExecutor* executor, aclrtStream stream) {
    const char* name = executor->name;
    Work work = std::move(executor->work);
    delete executor;
    return launch(stream, name, [work] {
        at::AutoDispatchBelowADInplaceOrView no_autograd;
        work();
    });
}

extern "C" {

aclTensor* aclCreateTensor(const int64_t* sizes, uint64_t dimensions, aclDataType type, const int64_t* strides,
                           int64_t offset, aclFormat format, const int64_t*, uint64_t, void* address) {
    if (format == ACL_FORMAT_FRACTAL_NZ) unimplemented("a tensor in the format FRACTAL_NZ");
    auto scalar = scalar_type(type);
    char* first = static_cast<char*>(address) + offset * static_cast<int64_t>(c10::elementSize(scalar));
    return new aclTensor{tensor_at(first, {sizes, dimensions}, {strides, dimensions}, scalar),
                         std::make_shared<std::vector<int64_t>>()};
}
aclScalar* aclCreateScalar(void* value, aclDataType type) {
    return new aclScalar{tensor_at(value, {}, {}, scalar_type(type)).item()};
}
aclIntArray* aclCreateIntArray(const int64_t* values, uint64_t count) { return array_of<aclIntArray>(values, count); }
aclFloatArray* aclCreateFloatArray(const float* values, uint64_t count) { return array_of<aclFloatArray>(values, count); }
aclBoolArray* aclCreateBoolArray(const bool* values, uint64_t count) { return array_of<aclBoolArray>(values, count); }

// A list owns its parts from here on.
aclTensorList* aclCreateTensorList(const aclTensor* const* tensors, uint64_t count) {
    auto list = new aclTensorList;
    for (uint64_t i = 0; i < count; ++i) {
        list->value.push_back(to_tensor(tensors[i]));
        delete tensors[i];
    }
    return list;
}
aclScalarList* aclCreateScalarList(const aclScalar* const* scalars, uint64_t count) {
    auto list = new aclScalarList;
    for (uint64_t i = 0; i < count; ++i) {
        list->value.push_back(scalars[i]->value);
        delete scalars[i];
    }
    return list;
}

int aclDestroyTensor(const aclTensor* it) { return delete it, 0; }
int aclDestroyScalar(const aclScalar* it) { return delete it, 0; }
int aclDestroyIntArray(const aclIntArray* it) { return delete it, 0; }
int aclDestroyFloatArray(const aclFloatArray* it) { return delete it, 0; }
int aclDestroyBoolArray(const aclBoolArray* it) { return delete it, 0; }
int aclDestroyTensorList(const aclTensorList* it) { return delete it, 0; }
int aclDestroyScalarList(const aclScalarList* it) { return delete it, 0; }
int aclDestroyAclOpExecutor(aclOpExecutor* it) { return delete it, 0; }

int aclGetViewShape(const aclTensor* tensor, int64_t** sizes, uint64_t* dimensions) {
    std::vector<int64_t> shape = tensor->shape->empty() ? tensor->value.sizes().vec() : *tensor->shape;
    *dimensions = shape.size();
    *sizes = new int64_t[shape.size()];
    std::copy(shape.begin(), shape.end(), *sizes);
    return 0;
}

}  // extern "C"

#include "operators_table.inc"

// What an operator may need at most is what it needs: nothing.
extern "C" decltype(aclnnFusedInferAttentionScoreV3GetWorkspaceSize) aclnnFusedInferAttentionScoreV3GetMaxWorkspaceSize
    __attribute__((alias("aclnnFusedInferAttentionScoreV3GetWorkspaceSize")));
extern "C" decltype(aclnnFusedInferAttentionScoreV4GetWorkspaceSize) aclnnFusedInferAttentionScoreV4GetMaxWorkspaceSize
    __attribute__((alias("aclnnFusedInferAttentionScoreV4GetWorkspaceSize")));

// Torch_npu asks whether it is there, and calls its successor.
extern "C" int aclnnGroupedMatmulV4GetWorkspaceSize() { unimplemented("aclnnGroupedMatmulV4"); }
extern "C" int aclnnGroupedMatmulV4() { unimplemented("aclnnGroupedMatmulV4"); }
