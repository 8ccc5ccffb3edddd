// Capture and replay: aclmdlRI*.
#include "stream.h"

using namespace sim;

namespace {

thread_local aclmdlRICaptureMode thread_mode = ACL_MODEL_RI_CAPTURE_MODE_GLOBAL;

void release(Graph& graph) {
    for (Stream* stream : graph.streams)
        if (stream->capture == &graph) {
            stream->capture = nullptr;
            stream->group = nullptr;
        }
    graph.active = false;
    streams().capturing.erase(&graph);
}

void give_streams_back(Graph& graph) { streams().taken[graph.device] -= static_cast<int>(graph.streams.size()); }

aclError drop(Graph& graph, aclError code, const char* text) {
    give_streams_back(graph);
    graph.tasks.clear();
    return fail(code, "EE9999: Inner Error!\n        rtStreamEndCapture execution failed, reason=%s", text);
}

}  // namespace

namespace sim {

void Graph::add(Stream* stream) {
    stream->capture = this;
    streams.insert(stream);
    // A stream that was drawn in has to be joined, even when it does nothing.
    step(stream);
}

bool Graph::all_joined() const {
    const Clock& known = clocks.at(origin);
    for (const Stream* stream : streams) {
        auto found = known.find(stream);
        if (found == known.end() || found->second < clocks.at(stream).at(stream)) return false;
    }
    return true;
}

aclError forbidden_in_capture(const char* call) {
    if (thread_mode == ACL_MODEL_RI_CAPTURE_MODE_RELAXED) return 0;
    std::lock_guard lock(streams().mutex);
    for (Graph* graph : streams().capturing) {
        bool mine = graph->thread == std::this_thread::get_id();
        if (graph->mode == ACL_MODEL_RI_CAPTURE_MODE_GLOBAL ||
            (graph->mode == ACL_MODEL_RI_CAPTURE_MODE_THREAD_LOCAL && mine)) {
            graph->invalid = true;
            return fail(ACL_ERROR_RT_CAPTURE_MODE_NOT_SUPPORT,
                        "EE9999: Inner Error!\n        %s execution failed, reason=the current capture mode does not "
                        "support this operation", call);
        }
    }
    return 0;
}

}  // namespace sim

extern "C" {

aclError aclmdlRICaptureBegin(aclrtStream handle, aclmdlRICaptureMode mode) {
    CANN_SIM_FAULT("aclmdlRICaptureBegin");
    Stream* stream = resolve(handle);
    std::lock_guard lock(streams().mutex);
    if (stream->capture)
        return fail(ACL_ERROR_RT_STREAM_CAPTURED, "EE9999: rtStreamBeginCapture failed, reason=stream is captured");
    if (!streams().take(stream->device))
        return fail(ACL_ERROR_RT_NO_STREAM_RESOURCE,
                    "Insufficient_Stream_Resources(EL0009): The stream resources are insufficient.\n"
                    "        Solution: Close applications not in use.\n"
                    "        TraceBack (most recent call last):\n"
                    "        rtStreamBeginCapture execution failed, reason=driver error:no stream resource\n"
                    "        begin capture stream failed, runtime result = 207008");
    auto graph = new Graph;
    graph->id = streams().next_graph++;
    graph->device = stream->device;
    graph->origin = stream;
    graph->mode = mode;
    graph->thread = std::this_thread::get_id();
    graph->add(stream);
    streams().capturing.insert(graph);
    return 0;
}

aclError aclmdlRICaptureGetInfo(aclrtStream handle, aclmdlRICaptureStatus* status, aclmdlRI* graph) {
    Stream* stream = resolve(handle);
    std::lock_guard lock(streams().mutex);
    *status = !stream->capture            ? ACL_MODEL_RI_CAPTURE_STATUS_NONE
              : stream->capture->invalid ? ACL_MODEL_RI_CAPTURE_STATUS_INVALIDATED
                                         : ACL_MODEL_RI_CAPTURE_STATUS_ACTIVE;
    if (graph) *graph = stream->capture;
    return 0;
}

aclError aclmdlRICaptureEnd(aclrtStream handle, aclmdlRI* result) {
    CANN_SIM_FAULT("aclmdlRICaptureEnd");
    Stream* stream = resolve(handle);
    std::lock_guard lock(streams().mutex);
    Graph* graph = stream->capture;
    *result = nullptr;
    if (!graph)
        return fail(ACL_ERROR_RT_STREAM_NOT_CAPTURED, "EE9999: rtStreamEndCapture failed, reason=stream is not captured");
    if (graph->origin != stream)
        return fail(ACL_ERROR_RT_STREAM_CAPTURE_UNMATCHED, "EE9999: the capture was not begun in this stream");
    release(*graph);
    if (graph->invalid) return drop(*graph, ACL_ERROR_RT_STREAM_CAPTURE_INVALIDATED, "capture is invalidated");
    if (!graph->all_joined()) return drop(*graph, ACL_ERROR_RT_STREAM_UNJOINED, "a captured stream was not joined");
    *result = graph;
    return 0;
}

aclError aclmdlRICaptureThreadExchangeMode(aclmdlRICaptureMode* mode) {
    std::swap(thread_mode, *mode);
    return 0;
}

aclError aclmdlRIExecuteAsync(aclmdlRI handle, aclrtStream stream) {
    auto graph = static_cast<Graph*>(handle);
    return launch(stream, "aclmdlRIExecuteAsync", [graph] {
        for (const TaskPtr& task : graph->tasks) {
            Work work = task->work;
            work();
        }
    });
}

// The object stays: a replay that was launched may still name it.
aclError aclmdlRIDestroy(aclmdlRI handle) {
    auto graph = static_cast<Graph*>(handle);
    std::lock_guard lock(streams().mutex);
    give_streams_back(*graph);
    graph->tasks.clear();
    return 0;
}

aclError aclmdlRIGetId(aclmdlRI graph, uint32_t* id) {
    *id = static_cast<Graph*>(graph)->id;
    return 0;
}

aclError aclmdlRICaptureTaskGrpBegin(aclrtStream handle) {
    Stream* stream = resolve(handle);
    std::lock_guard lock(streams().mutex);
    if (!stream->capture) return fail(ACL_ERROR_RT_STREAM_NOT_CAPTURED, "EE9999: no capture for a task group");
    if (stream->group) return fail(ACL_ERROR_STREAM_TASK_GROUP_STATUS, "EE9999: a task group is open already");
    stream->group = new TaskGroup;
    return 0;
}

aclError aclmdlRICaptureTaskGrpEnd(aclrtStream handle, aclrtTaskGrp* group) {
    Stream* stream = resolve(handle);
    std::lock_guard lock(streams().mutex);
    if (!stream->group) return fail(ACL_ERROR_STREAM_TASK_GROUP_STATUS, "EE9999: no task group is open");
    *group = stream->group;
    stream->group = nullptr;
    return 0;
}

aclError aclmdlRICaptureTaskUpdateBegin(aclrtStream handle, aclrtTaskGrp group) {
    Stream* stream = resolve(handle);
    std::lock_guard lock(streams().mutex);
    if (stream->update || !group) return fail(ACL_ERROR_STREAM_TASK_GROUP_STATUS, "EE9999: no task group to update");
    stream->update = static_cast<TaskGroup*>(group);
    stream->updated = 0;
    return 0;
}

aclError aclmdlRICaptureTaskUpdateEnd(aclrtStream handle) {
    Stream* stream = resolve(handle);
    std::lock_guard lock(streams().mutex);
    TaskGroup* group = stream->update;
    stream->update = nullptr;
    if (!group) return fail(ACL_ERROR_STREAM_TASK_GROUP_STATUS, "EE9999: no task group is being updated");
    if (stream->updated != group->tasks.size())
        return fail(ACL_ERROR_STREAM_TASK_GROUP_STATUS, "EE9999: %zu of %zu tasks were updated", stream->updated,
                    group->tasks.size());
    return 0;
}

}  // extern "C"
