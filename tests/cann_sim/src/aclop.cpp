// The old operator interface, as far as the call that would run the operator: that one ends the process and names it.
// torch_npu comes here for every operator that operators.txt does not have.
#include "sim.h"

#include <acl/acl_op_compiler.h>

namespace {

char nothing;  // what all descriptions are: nobody reads them

}  // namespace

extern "C" {

aclTensorDesc* aclCreateTensorDesc(aclDataType, int, const int64_t*, aclFormat) {
    return reinterpret_cast<aclTensorDesc*>(&nothing);
}
void aclDestroyTensorDesc(const aclTensorDesc*) {}
void aclSetTensorDescName(aclTensorDesc*, const char*) {}
aclError aclSetTensorFormat(aclTensorDesc*, aclFormat) { return 0; }
aclError aclSetTensorShape(aclTensorDesc*, int, const int64_t*) { return 0; }
aclError aclSetTensorPlaceMent(aclTensorDesc*, aclMemType) { return 0; }
aclDataBuffer* aclCreateDataBuffer(void*, size_t) { return reinterpret_cast<aclDataBuffer*>(&nothing); }
aclError aclDestroyDataBuffer(const aclDataBuffer*) { return 0; }
aclopAttr* aclopCreateAttr() { return reinterpret_cast<aclopAttr*>(&nothing); }
void aclopDestroyAttr(const aclopAttr*) {}
aclError aclopSetAttrBool(aclopAttr*, const char*, uint8_t) { return 0; }
aclError aclopSetAttrInt(aclopAttr*, const char*, int64_t) { return 0; }
aclError aclopSetAttrFloat(aclopAttr*, const char*, float) { return 0; }
aclError aclopSetAttrString(aclopAttr*, const char*, const char*) { return 0; }
aclError aclopSetAttrDataType(aclopAttr*, const char*, aclDataType) { return 0; }
aclError aclopSetAttrListBool(aclopAttr*, const char*, int, const uint8_t*) { return 0; }
aclError aclopSetAttrListInt(aclopAttr*, const char*, int, const int64_t*) { return 0; }
aclError aclopSetAttrListFloat(aclopAttr*, const char*, int, const float*) { return 0; }
aclError aclopSetAttrListListInt(aclopAttr*, const char*, int, const int*, const int64_t* const*) { return 0; }

aclError aclopCompileAndExecute(const char* type, int, const aclTensorDesc* const[], const aclDataBuffer* const[], int,
                                const aclTensorDesc* const[], aclDataBuffer* const[], const aclopAttr*,
                                aclopEngineType, aclopCompileType, const char*, aclrtStream) {
    sim::unimplemented((std::string("aclopCompileAndExecute(") + type + ")").c_str());
}
aclError aclopCompileAndExecuteV2(const char* type, int, aclTensorDesc*[], aclDataBuffer*[], int, aclTensorDesc*[],
                                  aclDataBuffer*[], aclopAttr*, aclopEngineType, aclopCompileType, const char*,
                                  aclrtStream) {
    sim::unimplemented((std::string("aclopCompileAndExecuteV2(") + type + ")").c_str());
}

}  // extern "C"
