// Streams and captured graphs. A graph is a list of tasks in the order of their capture, which is one of the orders
// that the captured streams and events allow; a replay runs it on the one stream that it is launched on.
#pragma once

#include "sim.h"

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace sim {

struct Stream;

struct Task {
    std::string name;
    Work work;
};
using TaskPtr = std::shared_ptr<Task>;

// How much of every stream of a capture is known to have happened before a point.
using Clock = std::map<const Stream*, int>;

struct TaskGroup {
    std::vector<TaskPtr> tasks;
};

struct Graph {
    uint32_t id = 0;
    int device = 0;
    Stream* origin = nullptr;
    aclmdlRICaptureMode mode = ACL_MODEL_RI_CAPTURE_MODE_GLOBAL;
    std::thread::id thread;
    bool active = true, invalid = false;
    std::vector<TaskPtr> tasks;
    std::set<Stream*> streams;
    std::map<const Stream*, Clock> clocks;

    void add(Stream* stream);
    void step(const Stream* stream) { ++clocks[stream][stream]; }
    bool all_joined() const;
};

struct Stream {
    int id = 0, device = 0;
    Graph* capture = nullptr;
    TaskGroup* group = nullptr;
    TaskGroup* update = nullptr;
    size_t updated = 0;

    void push(TaskPtr task);
    bool is_idle();
    // Waits until nothing is left; milliseconds < 0: for as long as it takes. Whether it is so.
    bool wait(int32_t milliseconds);

private:
    std::mutex mutex_;
    std::condition_variable filled_, drained_;
    std::deque<TaskPtr> tasks_;
    bool busy_ = false, started_ = false;

    void run();
};

// All streams and graphs of the process. Its mutex guards every field of streams and graphs but a stream's own queue.
struct Streams {
    std::mutex mutex;
    std::set<Stream*> alive;
    std::map<int, Stream*> default_of;
    std::set<Graph*> capturing;
    std::map<int, int> taken;  // by device: streams that exist, and those that graphs hold
    int next_stream = 0;
    uint32_t next_graph = 0;
    std::map<int, DeviceError> broken;  // by device
    std::set<std::string> launched;     // names of all work so far

    int64_t quota();
    bool take(int device);
};
Streams& streams();

// The stream that a handle names; a null handle is the current device's default stream.
Stream* resolve(aclrtStream handle);

int current_device();

// Whether a capture forbids `call`, which waits or works outside of streams: then the capture is spoilt, as on CUDA.
aclError forbidden_in_capture(const char* call);

// What broke the device, or 0.
aclError device_error(int device);

}  // namespace sim
