// Errors and scripted faults.
#include "sim.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <vector>

namespace {

struct Fault {
    std::string call;
    int64_t which;       // counted from 1
    std::string action;  // an error code, or one of ACTIONS
};

const std::set<std::string> ACTIONS = {"hang", "crash", "corrupt"};

struct Script {
    std::mutex mutex;
    std::vector<Fault> faults;
    std::map<std::string, int64_t> calls;
};

std::mutex recent_mutex;
std::string recent_error;

[[noreturn]] void bad_script(const std::string& entry) {
    fprintf(stderr, "cann_sim: %s is no fault: write CALL@NUMBER=CODE, or hang, crash or corrupt for CODE\n",
            entry.c_str());
    abort();
}

std::vector<Fault> parse(const std::string& text) {
    std::vector<Fault> faults;
    std::stringstream entries(text);
    for (std::string entry; std::getline(entries, entry, ';');) {
        auto at = entry.find('@'), is = entry.find('=');
        if (at == std::string::npos || is == std::string::npos || is < at) bad_script(entry);
        faults.push_back({entry.substr(0, at), atoll(entry.substr(at + 1, is - at - 1).c_str()), entry.substr(is + 1)});
        bool is_code = faults.back().action.find_first_not_of("0123456789") == std::string::npos;
        if (faults.back().which < 1 || !(is_code || ACTIONS.count(faults.back().action))) bad_script(entry);
    }
    return faults;
}

// Kept for good, as all state of the device is: its threads outlive main.
Script& script() {
    static Script* it = [] {
        auto fresh = new Script;
        const char* text = getenv("CANN_SIM_FAULTS");
        fresh->faults = parse(text ? text : "");
        return fresh;
    }();
    return *it;
}

const char* meaning(aclError code) {
    switch (code) {
        case ACL_ERROR_RT_NO_STREAM_RESOURCE:
            return "Insufficient_Stream_Resources(EL0009): The stream resources are insufficient.";
        case ACL_ERROR_RT_MEMORY_ALLOCATION: return "EL0004: Failed to allocate memory.";
        case ACL_ERROR_RT_RESOURCE_ALLOC_FAIL:
            return "EE9999: Inner Error!\n        [SqCqManage]Alloc sq cq fail, stream_id=1088, retCode=0x7020023.";
        case ACL_ERROR_RT_AICORE_EXCEPTION: return "EE9999: Inner Error!\n        reason=aicore exception";
        default: return "EE9999: Inner Error!";
    }
}

}  // namespace

namespace sim {

void unimplemented(const char* call) {
    fprintf(stderr, "cann_sim: %s is not implemented\n", call);
    fflush(stderr);
    abort();
}

aclError fail(aclError code, const char* format, ...) {
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    std::lock_guard lock(recent_mutex);
    recent_error = "[PID: " + std::to_string(getpid()) + "] " + text;
    return code;
}

aclError scripted_fault(const char* call) {
    std::string action;
    {
        std::lock_guard lock(script().mutex);
        if (script().faults.empty()) return 0;
        int64_t count = ++script().calls[call];
        for (const Fault& fault : script().faults)
            if (fault.call == call && fault.which == count) action = fault.action;
    }
    if (action.empty()) return 0;
    if (action == "crash") abort();
    if (action == "corrupt") return corrupt_memory(), 0;
    if (action == "hang")
        for (;;) pause();
    aclError code = atoi(action.c_str());
    return fail(code, "%s\n        %s failed, runtime result = %d", meaning(code), call, code);
}

int64_t environment(const char* name, int64_t otherwise) {
    const char* text = getenv(name);
    return text ? atoll(text) : otherwise;
}

}  // namespace sim

extern "C" {

void cann_sim_unimplemented(const char* call) { sim::unimplemented(call); }

// For tests in the process itself: a new script, whose calls count from here on.
void cann_sim_set_faults(const char* text) {
    auto faults = parse(text);
    std::lock_guard lock(script().mutex);
    script().faults = std::move(faults);
    script().calls.clear();
}

const char* aclGetRecentErrMsg() {
    static thread_local std::string text;
    std::lock_guard lock(recent_mutex);
    if (recent_error.empty()) return nullptr;
    text.swap(recent_error);
    recent_error.clear();
    return text.c_str();
}

}  // extern "C"
