// What the parts of the simulator share: errors, scripted faults, and the way onto a stream.
#pragma once

#include <acl/acl.h>

#include <cstdarg>
#include <cstdint>
#include <functional>
#include <string>

namespace sim {

using Work = std::function<void()>;

// Ends the process and names the call: nothing that is not simulated may pass for done.
[[noreturn]] void unimplemented(const char* call);

// Keeps `text` for aclGetRecentErrMsg and gives `code` back.
aclError fail(aclError code, const char* format, ...) __attribute__((format(printf, 2, 3)));

// The code that CANN_SIM_FAULTS scripts for this call of `call`, or 0. A script may also hang or end the process here, or
// spoil the device's memory and let the call go on.
aclError scripted_fault(const char* call);

// Flips the lowest bit of every eighth byte of the device's memory: numbers change a little, and nothing else notices.
void corrupt_memory();

// Runs `work` on the stream's own thread after what was launched before, or records it when the stream is captured.
// Work that throws breaks the device: every later synchronisation reports it.
aclError launch(aclrtStream stream, const char* name, Work work);

// An error that work on a stream reports as the device would.
struct DeviceError {
    aclError code;
    std::string text;
};

int64_t environment(const char* name, int64_t otherwise);

}  // namespace sim

// The first statement of every call that a script may let fail.
#define CANN_SIM_FAULT(call) \
    if (aclError scripted = sim::scripted_fault(call)) return scripted
