// Events, and the memory words that torch_npu's external events wait for.
#include "stream.h"

#include <atomic>
#include <chrono>
#include <thread>

using namespace sim;

namespace {

struct Event {
    uint32_t flag = 0;
    std::mutex mutex;
    std::condition_variable reached;
    uint64_t issued = 0, done = 0;
    std::chrono::steady_clock::time_point time;
    Graph* capture = nullptr;  // recorded last inside this capture
    Clock clock;
};

void reach(Event& event, uint64_t number) {
    std::lock_guard lock(event.mutex);
    event.done = std::max(event.done, number);
    event.time = std::chrono::steady_clock::now();
    event.reached.notify_all();
}

void await(Event& event, uint64_t number) {
    std::unique_lock lock(event.mutex);
    event.reached.wait(lock, [&] { return event.done >= number; });
}

bool belongs_to_capture(Event& event) {
    std::lock_guard lock(streams().mutex);
    return event.capture && event.capture->active;
}

aclError captured(const char* call) {
    return fail(ACL_ERROR_RT_EVENT_CAPTURED, "EE9999: Inner Error!\n        %s failed, reason=event is captured", call);
}

bool fulfilled(uint64_t value, uint64_t wanted, uint32_t flag) {
    switch (flag) {  // aclrtValueWait: greater or equal, equal, and, nor
        case 0: return static_cast<int64_t>(value - wanted) >= 0;
        case 1: return value == wanted;
        case 2: return (value & wanted) != 0;
        default: return ~(value | wanted) != 0;
    }
}

std::atomic<uint64_t>& word(void* address) { return *static_cast<std::atomic<uint64_t>*>(address); }

}  // namespace

extern "C" {

aclError aclrtCreateEventExWithFlag(aclrtEvent* handle, uint32_t flag) {
    CANN_SIM_FAULT("aclrtCreateEventExWithFlag");
    // The interprocess and external kinds of aclrtEvent are not simulated; torch_npu uses memory words for the latter.
    if (flag & ACL_EVENT_EXTERNAL) unimplemented("aclrtCreateEventExWithFlag(ACL_EVENT_EXTERNAL)");
    auto event = new Event;
    event->flag = flag;
    *handle = event;
    return 0;
}
aclError aclrtCreateEventWithFlag(aclrtEvent* event, uint32_t flag) { return aclrtCreateEventExWithFlag(event, flag); }

// The object stays: work that was launched may still name it.
aclError aclrtDestroyEvent(aclrtEvent) { return 0; }

aclError aclrtRecordEvent(aclrtEvent handle, aclrtStream stream_handle) {
    auto& event = *static_cast<Event*>(handle);
    Stream* stream = resolve(stream_handle);
    {
        std::lock_guard lock(streams().mutex);
        event.capture = stream->capture;
        if (stream->capture) {
            event.clock = stream->capture->clocks[stream];
            return 0;
        }
    }
    uint64_t number;
    {
        std::lock_guard lock(event.mutex);
        number = ++event.issued;
    }
    return launch(stream, "aclrtRecordEvent", [&event, number] { reach(event, number); });
}

aclError aclrtStreamWaitEvent(aclrtStream stream_handle, aclrtEvent handle) {
    auto& event = *static_cast<Event*>(handle);
    Stream* stream = resolve(stream_handle);
    {
        std::lock_guard lock(streams().mutex);
        if (Graph* graph = event.capture) {
            if (!graph->active) return captured("rtStreamWaitEvent");
            if (stream->capture && stream->capture != graph)
                return fail(ACL_ERROR_STREAM_CAPTURE_CONFLICT, "EE9999: two captures cannot wait for each other");
            if (!stream->capture) {
                if (!streams().take(graph->device))
                    return fail(ACL_ERROR_RT_NO_STREAM_RESOURCE,
                                "Insufficient_Stream_Resources(EL0009): The stream resources are insufficient.");
                graph->add(stream);
            }
            for (auto& [other, time] : event.clock) {
                int& known = graph->clocks[stream][other];
                known = std::max(known, time);
            }
            return 0;
        }
        // What happened before the capture is over by the time of a replay.
        if (stream->capture) return 0;
    }
    uint64_t number;
    {
        std::lock_guard lock(event.mutex);
        number = event.issued;
    }
    if (number == 0) return 0;
    return launch(stream, "aclrtStreamWaitEvent", [&event, number] { await(event, number); });
}

aclError aclrtSynchronizeEvent(aclrtEvent handle) {
    auto& event = *static_cast<Event*>(handle);
    if (belongs_to_capture(event)) return captured("rtEventSynchronize");
    if (aclError code = forbidden_in_capture("rtEventSynchronize")) return code;
    await(event, event.issued);
    return device_error(current_device());
}

aclError aclrtQueryEventStatus(aclrtEvent handle, aclrtEventRecordedStatus* status) {
    auto& event = *static_cast<Event*>(handle);
    if (belongs_to_capture(event)) return captured("rtEventQueryStatus");
    std::lock_guard lock(event.mutex);
    *status = event.done >= event.issued ? ACL_EVENT_RECORDED_STATUS_COMPLETE : ACL_EVENT_RECORDED_STATUS_NOT_READY;
    return 0;
}

aclError aclrtQueryEventWaitStatus(aclrtEvent handle, aclrtEventWaitStatus* status) {
    aclrtEventRecordedStatus recorded;
    aclError code = aclrtQueryEventStatus(handle, &recorded);
    *status = recorded == ACL_EVENT_RECORDED_STATUS_COMPLETE ? ACL_EVENT_WAIT_STATUS_COMPLETE
                                                             : ACL_EVENT_WAIT_STATUS_NOT_READY;
    return code;
}

aclError aclrtEventElapsedTime(float* milliseconds, aclrtEvent start, aclrtEvent end) {
    auto from = static_cast<Event*>(start)->time, to = static_cast<Event*>(end)->time;
    *milliseconds = std::chrono::duration<float, std::milli>(to - from).count();
    return 0;
}

aclError aclrtValueWrite(void* address, uint64_t value, uint32_t, aclrtStream stream) {
    return launch(stream, "aclrtValueWrite", [=] { word(address).store(value); });
}

aclError aclrtValueWait(void* address, uint64_t value, uint32_t flag, aclrtStream stream) {
    return launch(stream, "aclrtValueWait", [=] {
        while (!fulfilled(word(address).load(), value, flag)) std::this_thread::sleep_for(std::chrono::microseconds(20));
    });
}

}  // extern "C"
