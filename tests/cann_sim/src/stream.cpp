// Streams: each has a thread of its own, since a replayed graph may wait for what is launched after it.
#include "stream.h"

#include <chrono>
#include <cstdio>
#include <exception>

namespace sim {

Streams& streams() {
    static Streams* it = new Streams;
    return *it;
}

namespace {

int64_t& quota_value() {
    static int64_t quota = environment("CANN_SIM_STREAMS", 2048);
    return quota;
}

void break_device(int device, aclError code, const std::string& text) {
    std::lock_guard lock(streams().mutex);
    streams().broken.try_emplace(device, DeviceError{code, text});
}

void run_task(const Task& task, int device) {
    try {
        task.work();
    } catch (const DeviceError& error) {
        break_device(device, error.code, error.text);
    } catch (const std::exception& error) {
        break_device(device, ACL_ERROR_RT_AICORE_EXCEPTION,
                     "EE9999: Inner Error!\n        " + task.name + ": " + error.what() +
                         "\n        rtStreamSynchronizeWithTimeout execution failed, reason=aicore exception");
    }
}

aclError create(aclrtStream* handle) {
    auto stream = new Stream;
    {
        std::lock_guard lock(streams().mutex);
        stream->device = current_device();
        if (!streams().take(stream->device)) {
            delete stream;
            return fail(ACL_ERROR_RT_NO_STREAM_RESOURCE,
                        "Insufficient_Stream_Resources(EL0009): The stream resources are insufficient.\n"
                        "        Solution: Close applications not in use.\n"
                        "        create stream failed, runtime result = 207008");
        }
        stream->id = streams().next_stream++;
        streams().alive.insert(stream);
    }
    *handle = stream;
    return 0;
}

aclError synchronize(Stream* stream, int32_t milliseconds) {
    {
        std::lock_guard lock(streams().mutex);
        if (stream->capture) {
            stream->capture->invalid = true;
            return fail(ACL_ERROR_RT_STREAM_CAPTURED,
                        "EE9999: Inner Error!\n        Not allow to synchronize captured-stream, stream_id=%d."
                        "[FUNC:StreamSynchronize]\n        rtStreamSynchronizeWithTimeout execution failed, "
                        "reason=stream is captured", stream->id);
        }
    }
    if (aclError code = forbidden_in_capture("rtStreamSynchronizeWithTimeout")) return code;
    if (!stream->wait(milliseconds)) return fail(ACL_ERROR_RT_STREAM_SYNC_TIMEOUT, "EE9999: stream sync timeout");
    return device_error(stream->device);
}

}  // namespace

int64_t Streams::quota() { return quota_value(); }

bool Streams::take(int device) {
    if (taken[device] >= quota()) return false;
    ++taken[device];
    return true;
}

void Stream::push(TaskPtr task) {
    std::lock_guard lock(mutex_);
    if (!started_) {
        started_ = true;
        std::thread(&Stream::run, this).detach();
    }
    tasks_.push_back(std::move(task));
    filled_.notify_one();
}

void Stream::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        filled_.wait(lock, [this] { return !tasks_.empty(); });
        TaskPtr task = std::move(tasks_.front());
        tasks_.pop_front();
        busy_ = true;
        lock.unlock();
        run_task(*task, device);
        task.reset();
        lock.lock();
        busy_ = false;
        if (tasks_.empty()) drained_.notify_all();
    }
}

bool Stream::is_idle() {
    std::lock_guard lock(mutex_);
    return tasks_.empty() && !busy_;
}

bool Stream::wait(int32_t milliseconds) {
    std::unique_lock lock(mutex_);
    auto idle = [this] { return tasks_.empty() && !busy_; };
    if (milliseconds >= 0) return drained_.wait_for(lock, std::chrono::milliseconds(milliseconds), idle);
    drained_.wait(lock, idle);
    return true;
}

Stream* resolve(aclrtStream handle) {
    if (handle) return static_cast<Stream*>(handle);
    int device = current_device();
    {
        std::lock_guard lock(streams().mutex);
        auto found = streams().default_of.find(device);
        if (found != streams().default_of.end()) return found->second;
    }
    aclrtStream made = nullptr;
    if (create(&made)) throw DeviceError{ACL_ERROR_RT_NO_STREAM_RESOURCE, "no stream for the default stream"};
    std::lock_guard lock(streams().mutex);
    return streams().default_of[device] = static_cast<Stream*>(made);
}

aclError device_error(int device) {
    std::lock_guard lock(streams().mutex);
    auto found = streams().broken.find(device);
    return found == streams().broken.end() ? 0 : fail(found->second.code, "%s", found->second.text.c_str());
}

aclError launch(aclrtStream handle, const char* name, Work work) {
    Stream* stream = resolve(handle);
    if (aclError code = device_error(stream->device)) return code;
    std::string call = name;
    auto task = std::make_shared<Task>(Task{call, [call, work = std::move(work)] {
        if (aclError code = scripted_fault(call.c_str())) throw DeviceError{code, call + ": scripted fault"};
        work();
    }});
    std::unique_lock lock(streams().mutex);
    streams().launched.insert(call);
    if (stream->update) {
        if (stream->updated == stream->update->tasks.size())
            return fail(ACL_ERROR_STREAM_TASK_GROUP_STATUS, "EE9999: the task group has no task for %s", name);
        Task& old = *stream->update->tasks[stream->updated++];
        if (old.name != call)
            return fail(ACL_ERROR_RT_FEATURE_NOT_SUPPORT_UPDATE_OP, "EE9999: %s cannot become %s", old.name.c_str(), name);
        // The update takes its place among the work of its own stream, as replays do among that of theirs.
        auto target = stream->update->tasks[stream->updated - 1];
        lock.unlock();
        stream->push(std::make_shared<Task>(Task{"update of " + call, [target, task] { target->work = task->work; }}));
        return 0;
    }
    if (Graph* graph = stream->capture) {
        if (graph->invalid) return fail(ACL_ERROR_RT_STREAM_CAPTURE_INVALIDATED, "EE9999: capture is invalidated");
        graph->step(stream);
        graph->tasks.push_back(task);
        if (stream->group) stream->group->tasks.push_back(task);
        return 0;
    }
    lock.unlock();
    stream->push(std::move(task));
    return 0;
}

}  // namespace sim

using namespace sim;

extern "C" {

// For tests in the process itself.
int64_t cann_sim_streams_taken(int device) {
    std::lock_guard lock(streams().mutex);
    return streams().taken[device];
}
const char* cann_sim_launched() {
    static thread_local std::string names;
    std::lock_guard lock(streams().mutex);
    names.clear();
    for (const std::string& name : streams().launched) names += name + "\n";
    return names.c_str();
}
void cann_sim_set_stream_quota(int64_t quota) {
    std::lock_guard lock(streams().mutex);
    quota_value() = quota;
}

aclError aclrtCreateStreamWithConfig(aclrtStream* stream, uint32_t, uint32_t) {
    CANN_SIM_FAULT("aclrtCreateStreamWithConfig");
    return create(stream);
}
aclError aclrtCreateStream(aclrtStream* stream) { return aclrtCreateStreamWithConfig(stream, 0, 0); }

aclError aclrtDestroyStream(aclrtStream handle) {
    Stream* stream = resolve(handle);
    stream->wait(-1);
    std::lock_guard lock(streams().mutex);
    // The object stays: its thread waits on it.
    if (streams().alive.erase(stream)) --streams().taken[stream->device];
    return 0;
}
aclError aclrtDestroyStreamForce(aclrtStream stream) { return aclrtDestroyStream(stream); }

aclError aclrtStreamGetId(aclrtStream stream, int32_t* id) {
    *id = resolve(stream)->id;
    return 0;
}

aclError aclrtStreamQuery(aclrtStream handle, aclrtStreamStatus* status) {
    Stream* stream = resolve(handle);
    {
        std::lock_guard lock(streams().mutex);
        if (stream->capture) {
            stream->capture->invalid = true;
            return fail(ACL_ERROR_RT_STREAM_CAPTURED, "EE9999: rtStreamQuery failed, reason=stream is captured");
        }
    }
    *status = stream->is_idle() ? ACL_STREAM_STATUS_COMPLETE : ACL_STREAM_STATUS_NOT_READY;
    return 0;
}

aclError aclrtSynchronizeStreamWithTimeout(aclrtStream stream, int32_t milliseconds) {
    CANN_SIM_FAULT("aclrtSynchronizeStreamWithTimeout");
    return synchronize(resolve(stream), milliseconds);
}
aclError aclrtSynchronizeStream(aclrtStream stream) { return aclrtSynchronizeStreamWithTimeout(stream, -1); }

aclError aclrtSynchronizeDeviceWithTimeout(int32_t milliseconds) {
    CANN_SIM_FAULT("aclrtSynchronizeDeviceWithTimeout");
    if (aclError code = forbidden_in_capture("rtDeviceSynchronizeWithTimeout")) return code;
    std::vector<Stream*> mine;
    {
        std::lock_guard lock(streams().mutex);
        for (Stream* stream : streams().alive)
            if (stream->device == current_device()) mine.push_back(stream);
    }
    for (Stream* stream : mine)
        if (!stream->wait(milliseconds)) return fail(ACL_ERROR_RT_STREAM_SYNC_TIMEOUT, "EE9999: device sync timeout");
    return device_error(current_device());
}
aclError aclrtSynchronizeDevice() { return aclrtSynchronizeDeviceWithTimeout(-1); }

// Settings that change nothing here: work that fails always breaks the device, overflow is IEEE's.
aclError aclrtSetStreamFailureMode(aclrtStream, uint64_t) { return 0; }
aclError aclrtSetStreamAttribute(aclrtStream, aclrtStreamAttr, aclrtStreamAttrValue*) { return 0; }
aclError aclrtSetStreamOverflowSwitch(aclrtStream, uint32_t) { return 0; }
aclError aclrtGetStreamOverflowSwitch(aclrtStream, uint32_t* on) {
    *on = 0;
    return 0;
}

aclError aclrtLaunchHostFunc(aclrtStream stream, aclrtHostFunc function, void* data) {
    return launch(stream, "aclrtLaunchHostFunc", [=] { function(data); });
}

}  // extern "C"
