// The device and the settings of the process.
#include "sim.h"
#include "stream.h"

#include <acl/acl_op_compiler.h>
#include <acl/acl_prof.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

thread_local int device = 0;

constexpr int64_t CORES = 24;  // AI cores of the Ascend 910B that it says it is

constexpr const char* CANN_VERSION = "9.1.0";

// A context is a device: nothing here needs two on one.
aclrtContext context_of(int number) { return reinterpret_cast<aclrtContext>(static_cast<uintptr_t>(number) + 1); }

}  // namespace

namespace sim {

int current_device() { return device; }

}  // namespace sim

extern "C" {

aclError aclInit(const char*) {
    CANN_SIM_FAULT("aclInit");
    return 0;
}
aclError aclFinalize() { return 0; }

aclError aclrtSetDevice(int32_t number) {
    CANN_SIM_FAULT("aclrtSetDevice");
    if (number < 0 || number >= sim::environment("CANN_SIM_DEVICES", 2))
        return sim::fail(ACL_ERROR_RT_INVALID_DEVICEID, "EE1001: there is no device %d", number);
    device = number;
    return 0;
}
aclError aclrtGetDevice(int32_t* number) {
    *number = device;
    return 0;
}
aclError aclrtResetDevice(int32_t) { return 0; }
aclError aclrtGetDeviceCount(uint32_t* count) {
    *count = static_cast<uint32_t>(sim::environment("CANN_SIM_DEVICES", 2));
    return 0;
}
const char* aclrtGetSocName() { return "Ascend910B3"; }
aclError aclrtGetCurrentContext(aclrtContext* context) {
    *context = context_of(device);
    return 0;
}
aclError aclrtSetCurrentContext(aclrtContext context) {
    device = static_cast<int>(reinterpret_cast<uintptr_t>(context) - 1);
    return 0;
}
aclError aclrtGetPrimaryCtxState(int32_t, uint32_t* flags, int32_t* active) {
    if (flags) *flags = 0;
    *active = 1;
    return 0;
}
aclError aclrtGetDeviceInfo(uint32_t, aclrtDevAttr, int64_t* value) {
    *value = CORES;
    return 0;
}
aclError aclGetDeviceCapability(uint32_t, aclDeviceInfo, int64_t* value) {
    *value = CORES;
    return 0;
}
aclError aclrtGetDeviceResLimit(int32_t, aclrtDevResLimitType, uint32_t* value) {
    *value = CORES;
    return 0;
}
aclError aclrtGetStreamResLimit(aclrtStream, aclrtDevResLimitType, uint32_t* value) {
    *value = CORES;
    return 0;
}
aclError aclrtGetResInCurrentThread(aclrtDevResLimitType, uint32_t* value) {
    *value = CORES;
    return 0;
}
aclError aclrtDeviceCanAccessPeer(int32_t* can, int32_t, int32_t) {
    *can = 0;
    return 0;
}
aclError aclrtDeviceGetBareTgid(int32_t* id) {
    *id = getpid();
    return 0;
}
aclError aclrtPeekAtLastError(aclrtLastErrLevel) { return sim::device_error(device); }
aclError aclrtGetLastError(aclrtLastErrLevel) { return sim::device_error(device); }
aclError aclrtDeviceGetUuid(int32_t number, aclrtUuid* uuid) {
    memset(uuid, number + 1, sizeof *uuid);
    return 0;
}

// Settings without an effect: arithmetic is IEEE's and deterministic, nothing is compiled, a wait ends when it ends.
aclError aclrtSetDeviceSatMode(aclrtFloatOverflowMode) { return 0; }
aclError aclrtSetOpWaitTimeout(uint32_t) { return 0; }
aclError aclrtSetOpExecuteTimeOut(uint32_t) { return 0; }
aclError aclrtSetSysParamOpt(aclSysParamOpt, int64_t) { return 0; }
aclError aclrtCtxSetSysParamOpt(aclSysParamOpt, int64_t) { return 0; }
aclError aclrtGetSysParamOpt(aclSysParamOpt, int64_t* value) {
    *value = 0;
    return 0;
}
size_t aclGetCompileoptSize(aclCompileOpt) { return sizeof "disable"; }
aclError aclGetCompileopt(aclCompileOpt, char* value, size_t size) {
    snprintf(value, size, "disable");
    return 0;
}
aclError aclSetCompileopt(aclCompileOpt, const char*) { return 0; }
aclError aclrtUseStreamResInCurrentThread(aclrtStream) { return 0; }
aclError aclrtUnuseStreamResInCurrentThread(aclrtStream) { return 0; }

aclError aclsysGetCANNVersion(aclCANNPackageName, aclCANNPackageVersion* version) {
    memset(version, 0, sizeof *version);
    snprintf(version->version, sizeof version->version, "%s", CANN_VERSION);
    snprintf(version->majorVersion, sizeof version->majorVersion, "9");
    snprintf(version->minorVersion, sizeof version->minorVersion, "1");
    snprintf(version->releaseVersion, sizeof version->releaseVersion, "0");
    snprintf(version->patchVersion, sizeof version->patchVersion, "0");
    return 0;
}
aclError aclsysGetVersionStr(char*, char* version) {
    strcpy(version, CANN_VERSION);
    return 0;
}
aclError aclGetCannAttributeList(const aclCannAttr** attributes, size_t* count) {
    *attributes = nullptr;
    *count = 0;
    return 0;
}
aclError aclGetCannAttribute(aclCannAttr, int32_t* value) {
    *value = 0;
    return 0;
}

// torch_npu tells CANN's log what it does; CANN_SIM_LOG is the lowest level that is printed.
void aclAppLog(aclLogLevel level, const char*, const char*, uint32_t, const char* format, ...) {
    static const int64_t lowest = sim::environment("CANN_SIM_LOG", 4);
    if (level < lowest) return;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

// Host callbacks over report threads: torch_npu waits for reports even when it never asked for one.
aclError aclrtSubscribeReport(uint64_t, aclrtStream) { return 0; }
aclError aclrtUnSubscribeReport(uint64_t, aclrtStream) { return 0; }
aclError aclrtProcessReport(int32_t milliseconds) {
    usleep((milliseconds > 0 ? milliseconds : 10) * 1000);
    return ACL_ERROR_RT_STREAM_NO_CB_REG;
}

// The profiler is off: who registers or reports is told that it was taken, as with CANN's.
uint64_t MsprofGetHashId(const char*, size_t) { return 0; }
int32_t MsprofRegisterCallback(uint32_t, void*) { return 0; }
int32_t MsprofReportAdditionalInfo(uint32_t, const void*, uint32_t) { return 0; }
int32_t MsprofReportApi(uint32_t, const void*) { return 0; }
int32_t MsprofReportCompactInfo(uint32_t, const void*, uint32_t) { return 0; }
uint64_t MsprofSysCycleTime() { return 0; }

}  // extern "C"
