// Memory of the device: host memory with a limit per device, full of NaN before its first use and after its last.
// A capture does not forbid to allocate: torch_npu does so inside captures in the strictest mode.
#include "sim.h"
#include "stream.h"

#include <cstdlib>
#include <cstring>

using namespace sim;

namespace {

constexpr size_t ALIGNMENT = 512;
constexpr int POISON = 0xFF;  // NaN in every float format, -1 in every integer format

struct Block {
    size_t bytes;
    int device;
};

struct Memory {
    std::mutex mutex;
    std::map<const char*, Block> on_device;
    std::map<const char*, Block> on_host;
    std::map<int, size_t> used;
};

Memory& memory() {
    static Memory* it = new Memory;
    return *it;
}

size_t capacity() {
    static const size_t bytes = static_cast<size_t>(environment("CANN_SIM_MEMORY_MIB", 4096)) << 20;
    return bytes;
}

char* allocate(size_t bytes) {
    return static_cast<char*>(aligned_alloc(ALIGNMENT, (std::max<size_t>(bytes, 1) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT));
}

bool contains(const std::map<const char*, Block>& blocks, const void* address) {
    auto after = blocks.upper_bound(static_cast<const char*>(address));
    if (after == blocks.begin()) return false;
    --after;
    return static_cast<const char*>(address) < after->first + after->second.bytes;
}

}  // namespace

void sim::corrupt_memory() {
    std::lock_guard lock(memory().mutex);
    for (auto& [address, block] : memory().on_device)
        for (size_t i = 0; i < block.bytes; i += 8) const_cast<char*>(address)[i] ^= 1;
}

extern "C" {

aclError aclrtMalloc(void** address, size_t bytes, aclrtMemMallocPolicy) {
    CANN_SIM_FAULT("aclrtMalloc");
    std::lock_guard lock(memory().mutex);
    size_t& used = memory().used[current_device()];
    char* block = used + bytes > capacity() ? nullptr : allocate(bytes);
    if (!block)
        return fail(ACL_ERROR_RT_MEMORY_ALLOCATION,
                    "EL0004: Failed to allocate memory.\n        %zu bytes asked for, %zu of %zu are used", bytes, used,
                    capacity());
    memset(block, POISON, bytes);
    memory().on_device[block] = {bytes, current_device()};
    used += bytes;
    *address = block;
    return 0;
}
aclError aclrtMallocAlign32(void** address, size_t bytes, aclrtMemMallocPolicy policy) {
    return aclrtMalloc(address, bytes, policy);
}

aclError aclrtFree(void* address) {
    std::lock_guard lock(memory().mutex);
    auto found = memory().on_device.find(static_cast<char*>(address));
    if (found == memory().on_device.end()) return fail(ACL_ERROR_RT_PARAM_INVALID, "EE1001: not memory of a device");
    memset(address, POISON, found->second.bytes);
    memory().used[found->second.device] -= found->second.bytes;
    memory().on_device.erase(found);
    free(address);
    return 0;
}

aclError aclrtMallocHost(void** address, size_t bytes) {
    char* block = allocate(bytes);
    if (!block) return fail(ACL_ERROR_RT_MEMORY_ALLOCATION, "EL0004: Failed to allocate memory of the host");
    std::lock_guard lock(memory().mutex);
    memory().on_host[block] = {bytes, 0};
    *address = block;
    return 0;
}
aclError aclrtMallocHostWithCfg(void** address, uint64_t bytes, aclrtMallocConfig*) {
    return aclrtMallocHost(address, bytes);
}
aclError aclrtFreeHost(void* address) {
    std::lock_guard lock(memory().mutex);
    memory().on_host.erase(static_cast<char*>(address));
    free(address);
    return 0;
}

aclError aclrtGetMemInfo(aclrtMemAttr, size_t* left, size_t* total) {
    std::lock_guard lock(memory().mutex);
    *total = capacity();
    *left = capacity() - memory().used[current_device()];
    return 0;
}

aclError aclrtPointerGetAttributes(const void* address, aclrtPtrAttributes* attributes) {
    memset(attributes, 0, sizeof *attributes);
    std::lock_guard lock(memory().mutex);
    attributes->location.id = static_cast<uint32_t>(current_device());
    attributes->location.type = contains(memory().on_device, address) ? ACL_MEM_LOCATION_TYPE_DEVICE
                                : contains(memory().on_host, address) ? ACL_MEM_LOCATION_TYPE_HOST
                                                                      : ACL_MEM_LOCATION_TYPE_UNREGISTERED;
    return 0;
}

aclError aclrtMemcpy(void* to, size_t, const void* from, size_t bytes, aclrtMemcpyKind) {
    if (aclError code = forbidden_in_capture("rtMemcpy")) return code;
    memmove(to, from, bytes);
    return 0;
}
aclError aclrtMemset(void* to, size_t, int32_t value, size_t bytes) {
    if (aclError code = forbidden_in_capture("rtMemset")) return code;
    memset(to, value, bytes);
    return 0;
}
aclError aclrtMemcpyAsync(void* to, size_t, const void* from, size_t bytes, aclrtMemcpyKind, aclrtStream stream) {
    return launch(stream, "aclrtMemcpyAsync", [=] { memmove(to, from, bytes); });
}
aclError aclrtMemcpyAsyncWithCondition(void* to, size_t most, const void* from, size_t bytes, aclrtMemcpyKind kind,
                                       aclrtStream stream) {
    return aclrtMemcpyAsync(to, most, from, bytes, kind, stream);
}
aclError aclrtMemsetAsync(void* to, size_t, int32_t value, size_t bytes, aclrtStream stream) {
    return launch(stream, "aclrtMemsetAsync", [=] { memset(to, value, bytes); });
}

}  // extern "C"
