// Collectives between processes over one piece of shared memory per communicator, in chunks, as work on a stream.
#include "sim.h"
#include "stream.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <hccl/hccl_types.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

using namespace sim;

namespace {

constexpr size_t CHUNK = 256 << 10;
constexpr size_t HEADER = 4096;

using Deadline = std::chrono::steady_clock::time_point;

Deadline in(int64_t seconds) { return std::chrono::steady_clock::now() + std::chrono::seconds(seconds); }

// Waits until `reached`; false when the deadline passed before.
template <class Condition>
bool wait_until(Deadline deadline, Condition reached) {
    for (int tries = 0; !reached(); ++tries) {
        if (tries < 200) std::this_thread::yield();
        else if (std::chrono::steady_clock::now() > deadline) return false;
        else std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    return true;
}

struct Header {
    std::atomic<uint32_t> arrived, generation;
};

struct Mailbox {
    std::atomic<uint64_t> sent, taken;
    char data[CHUNK];
};

struct Communicator {
    uint32_t ranks = 0, rank = 0;
    std::string name;
    char* memory = nullptr;

    static size_t bytes(uint32_t ranks) { return HEADER + ranks * CHUNK + size_t(ranks) * ranks * sizeof(Mailbox); }
    Header& header() { return *reinterpret_cast<Header*>(memory); }
    char* slot(uint32_t of) { return memory + HEADER + of * CHUNK; }
    Mailbox& mailbox(uint32_t from, uint32_t to) {
        return reinterpret_cast<Mailbox*>(memory + HEADER + ranks * CHUNK)[from * ranks + to];
    }

    // When who waits for a peer gives up.
    static Deadline deadline() { return in(environment("HCCL_EXEC_TIMEOUT", 1836)); }  // HCCL's own default
    bool meet(Deadline deadline) {
        Header& shared = header();
        uint32_t generation = shared.generation.load();
        if (shared.arrived.fetch_add(1) + 1 == ranks) {
            shared.arrived = 0;
            shared.generation.fetch_add(1);
            return true;
        }
        return wait_until(deadline, [&] { return shared.generation.load() != generation; });
    }
    void meet() {
        if (!meet(deadline())) give_up();
    }
    [[noreturn]] void give_up() {
        throw DeviceError{ACL_ERROR_RT_FFTS_PLUS_TIMEOUT,
                          "EI0002: The wait execution of the Notify register times out. Reason: The Notify register has "
                          "not received the Notify record from remote rank. (rank " + std::to_string(rank) + " of " + name + ")"};
    }
};

size_t size_of(HcclDataType type) {
    switch (type) {
        case HCCL_DATA_TYPE_INT8: case HCCL_DATA_TYPE_UINT8: return 1;
        case HCCL_DATA_TYPE_INT16: case HCCL_DATA_TYPE_UINT16: case HCCL_DATA_TYPE_FP16: case HCCL_DATA_TYPE_BFP16: return 2;
        case HCCL_DATA_TYPE_INT32: case HCCL_DATA_TYPE_UINT32: case HCCL_DATA_TYPE_FP32: return 4;
        case HCCL_DATA_TYPE_INT64: case HCCL_DATA_TYPE_UINT64: case HCCL_DATA_TYPE_FP64: return 8;
        default: unimplemented(("HCCL with data type " + std::to_string(type)).c_str());
    }
}

template <class T, class Wide = T>
void reduce_as(char* into, const char* other, size_t count, HcclReduceOp operation) {
    auto result = reinterpret_cast<T*>(into);
    auto values = reinterpret_cast<const T*>(other);
    for (size_t i = 0; i < count; ++i) {
        Wide a = result[i], b = values[i];
        switch (operation) {
            case HCCL_REDUCE_SUM: result[i] = static_cast<Wide>(a + b); break;
            case HCCL_REDUCE_PROD: result[i] = static_cast<Wide>(a * b); break;
            case HCCL_REDUCE_MAX: result[i] = std::max(a, b); break;
            case HCCL_REDUCE_MIN: result[i] = std::min(a, b); break;
            default: unimplemented("HCCL with another reduction than sum, prod, max and min");
        }
    }
}

void reduce(char* into, const char* other, size_t count, HcclDataType type, HcclReduceOp operation) {
    switch (type) {
        case HCCL_DATA_TYPE_INT8: return reduce_as<int8_t>(into, other, count, operation);
        case HCCL_DATA_TYPE_UINT8: return reduce_as<uint8_t>(into, other, count, operation);
        case HCCL_DATA_TYPE_INT16: return reduce_as<int16_t>(into, other, count, operation);
        case HCCL_DATA_TYPE_INT32: return reduce_as<int32_t>(into, other, count, operation);
        case HCCL_DATA_TYPE_INT64: return reduce_as<int64_t>(into, other, count, operation);
        case HCCL_DATA_TYPE_FP32: return reduce_as<float>(into, other, count, operation);
        case HCCL_DATA_TYPE_FP64: return reduce_as<double>(into, other, count, operation);
        case HCCL_DATA_TYPE_FP16: return reduce_as<c10::Half, float>(into, other, count, operation);
        case HCCL_DATA_TYPE_BFP16: return reduce_as<c10::BFloat16, float>(into, other, count, operation);
        default: unimplemented(("an HCCL reduction of data type " + std::to_string(type)).c_str());
    }
}

Communicator& of(HcclComm handle) { return *static_cast<Communicator*>(handle); }

// Runs `body(offset, length)` for each chunk of `bytes`.
template <class Body>
void in_chunks(size_t bytes, Body body) {
    for (size_t offset = 0; offset < bytes; offset += CHUNK) body(offset, std::min(CHUNK, bytes - offset));
}

// Every rank shows a chunk of its own, then reads what it wants of the others'.
template <class Take>
void exchange(Communicator& group, const char* mine, size_t length, Take take) {
    if (mine) memcpy(group.slot(group.rank), mine, length);
    group.meet();
    take();
    group.meet();
}

// Adds up what all ranks show, in the order of ranks, so whoever does it gets the same bits.
void reduce_slots(Communicator& group, char* into, size_t length, HcclDataType type, HcclReduceOp operation) {
    memcpy(into, group.slot(0), length);
    for (uint32_t rank = 1; rank < group.ranks; ++rank)
        reduce(into, group.slot(rank), length / size_of(type), type, operation);
}

void send(Communicator& group, const char* data, size_t bytes, uint32_t to) {
    Mailbox& box = group.mailbox(group.rank, to);
    in_chunks(bytes, [&](size_t offset, size_t length) {
        if (!wait_until(group.deadline(), [&] { return box.sent == box.taken; })) group.give_up();
        memcpy(box.data, data + offset, length);
        ++box.sent;
    });
}

void receive(Communicator& group, char* data, size_t bytes, uint32_t from) {
    Mailbox& box = group.mailbox(from, group.rank);
    in_chunks(bytes, [&](size_t offset, size_t length) {
        if (!wait_until(group.deadline(), [&] { return box.sent > box.taken; })) group.give_up();
        memcpy(data + offset, box.data, length);
        ++box.taken;
    });
}

// To every rank its part and from every rank its part; `part(rank)` are (address, bytes).
template <class Part, class Room>
void all_to_all(Communicator& group, Part part, Room room) {
    auto [own, own_bytes] = part(group.rank);
    memcpy(room(group.rank).first, own, own_bytes);
    for (uint32_t step = 1; step < group.ranks; ++step) {
        uint32_t to = (group.rank + step) % group.ranks, from = (group.rank + group.ranks - step) % group.ranks;
        // Two threads, since both ends of a pair may have more to send than a mailbox holds.
        std::thread sending([&, to] { send(group, part(to).first, part(to).second, to); });
        receive(group, room(from).first, room(from).second, from);
        sending.join();
    }
}

HcclResult start(const char* call, aclrtStream stream, Work work) {
    return launch(stream, call, std::move(work)) ? HCCL_E_RUNTIME : HCCL_SUCCESS;
}

const char* read_only(const void* address) { return static_cast<const char*>(address); }
char* writable(const void* address) { return static_cast<char*>(const_cast<void*>(address)); }

std::vector<uint64_t> copied(const void* counts, uint32_t ranks) {
    auto first = static_cast<const uint64_t*>(counts);
    return {first, first + ranks};
}

}  // namespace

extern "C" {

// The first rank's memory has no name that a killed rank could leave behind: others find it among its open files.
HcclResult HcclGetRootInfo(HcclRootInfo* root) {
    int file = memfd_create("cann_sim_hccl", 0);
    if (file < 0) return HCCL_E_SYSCALL;
    memset(root, 0, sizeof *root);
    snprintf(root->internal, sizeof root->internal, "/proc/%d/fd/%d", getpid(), file);
    return HCCL_SUCCESS;
}

HcclResult HcclCommInitRootInfo(uint32_t ranks, const HcclRootInfo* root, uint32_t rank, HcclComm* handle) {
    if (scripted_fault("HcclCommInitRootInfo")) return HCCL_E_RUNTIME;
    int file = open(root->internal, O_RDWR);
    size_t bytes = Communicator::bytes(ranks);
    if (file < 0 || ftruncate(file, static_cast<off_t>(bytes))) return HCCL_E_SYSCALL;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED) return HCCL_E_MEMORY;
    auto group = new Communicator;
    group->ranks = ranks;
    group->rank = rank;
    group->name = root->internal;
    group->memory = static_cast<char*>(memory);
    if (!group->meet(in(environment("HCCL_CONNECT_TIMEOUT", 120)))) {
        fail(ACL_ERROR_RT_INTERNAL_ERROR, "EI0006: Getting socket times out. Not all ranks of the communicator came.");
        return HCCL_E_TIMEOUT;
    }
    *handle = group;
    return HCCL_SUCCESS;
}
HcclResult HcclCommInitRootInfoConfig(uint32_t ranks, const HcclRootInfo* root, uint32_t rank, const HcclCommConfig*,
                                      HcclComm* handle) {
    return HcclCommInitRootInfo(ranks, root, rank, handle);
}
uint32_t HcclGetCommConfigCapability() { return 0; }
HcclResult HcclSetConfig(HcclConfig, HcclConfigValue) { return HCCL_SUCCESS; }
HcclResult HcclGetCommName(HcclComm comm, char* name) {
    snprintf(name, COMM_NAME_MAX_LENGTH, "%s", of(comm).name.c_str());
    return HCCL_SUCCESS;
}
HcclResult HcclGetRankSize(HcclComm comm, uint32_t* ranks) {
    *ranks = of(comm).ranks;
    return HCCL_SUCCESS;
}
HcclResult HcclGetRankId(HcclComm comm, uint32_t* rank) {
    *rank = of(comm).rank;
    return HCCL_SUCCESS;
}
HcclResult HcclGetCommAsyncError(HcclComm, HcclResult* error) {
    *error = device_error(current_device()) ? HCCL_E_REMOTE : HCCL_SUCCESS;
    return HCCL_SUCCESS;
}
// The object stays: graphs that were captured with it may be replayed.
HcclResult HcclCommDestroy(HcclComm) { return HCCL_SUCCESS; }

HcclResult HcclAllReduce(void* from, void* to, uint64_t count, HcclDataType type, HcclReduceOp operation, HcclComm comm,
                         aclrtStream stream) {
    return start("HcclAllReduce", stream, [=] {
        Communicator& group = of(comm);
        in_chunks(count * size_of(type), [&](size_t offset, size_t length) {
            exchange(group, read_only(from) + offset, length,
                     [&] { reduce_slots(group, writable(to) + offset, length, type, operation); });
        });
    });
}

HcclResult HcclReduce(void* from, void* to, uint64_t count, HcclDataType type, HcclReduceOp operation, uint32_t root,
                      HcclComm comm, aclrtStream stream) {
    return start("HcclReduce", stream, [=] {
        Communicator& group = of(comm);
        in_chunks(count * size_of(type), [&](size_t offset, size_t length) {
            exchange(group, read_only(from) + offset, length, [&] {
                if (group.rank == root) reduce_slots(group, writable(to) + offset, length, type, operation);
            });
        });
    });
}

HcclResult HcclAllGather(void* from, void* to, uint64_t count, HcclDataType type, HcclComm comm, aclrtStream stream) {
    return start("HcclAllGather", stream, [=] {
        Communicator& group = of(comm);
        size_t bytes = count * size_of(type);
        in_chunks(bytes, [&](size_t offset, size_t length) {
            exchange(group, read_only(from) + offset, length, [&] {
                for (uint32_t rank = 0; rank < group.ranks; ++rank)
                    memcpy(writable(to) + rank * bytes + offset, group.slot(rank), length);
            });
        });
    });
}

HcclResult HcclReduceScatter(void* from, void* to, uint64_t count, HcclDataType type, HcclReduceOp operation,
                             HcclComm comm, aclrtStream stream) {
    return start("HcclReduceScatter", stream, [=] {
        Communicator& group = of(comm);
        size_t bytes = count * size_of(type);
        for (uint32_t owner = 0; owner < group.ranks; ++owner)
            in_chunks(bytes, [&](size_t offset, size_t length) {
                exchange(group, read_only(from) + owner * bytes + offset, length, [&] {
                    if (group.rank == owner) reduce_slots(group, writable(to) + offset, length, type, operation);
                });
            });
    });
}

HcclResult HcclBroadcast(void* buffer, uint64_t count, HcclDataType type, uint32_t root, HcclComm comm,
                         aclrtStream stream) {
    return start("HcclBroadcast", stream, [=] {
        Communicator& group = of(comm);
        in_chunks(count * size_of(type), [&](size_t offset, size_t length) {
            bool is_root = group.rank == root;
            exchange(group, is_root ? read_only(buffer) + offset : nullptr, length, [&] {
                if (!is_root) memcpy(writable(buffer) + offset, group.slot(root), length);
            });
        });
    });
}

HcclResult HcclScatter(void* from, void* to, uint64_t count, HcclDataType type, uint32_t root, HcclComm comm,
                       aclrtStream stream) {
    return start("HcclScatter", stream, [=] {
        Communicator& group = of(comm);
        size_t bytes = count * size_of(type);
        if (group.rank != root) return receive(group, writable(to), bytes, root);
        for (uint32_t rank = 0; rank < group.ranks; ++rank)
            if (rank == root) memcpy(to, read_only(from) + rank * bytes, bytes);
            else send(group, read_only(from) + rank * bytes, bytes, rank);
    });
}

HcclResult HcclSend(void* from, uint64_t count, HcclDataType type, uint32_t to, HcclComm comm, aclrtStream stream) {
    return start("HcclSend", stream, [=] { send(of(comm), read_only(from), count * size_of(type), to); });
}
HcclResult HcclRecv(void* to, uint64_t count, HcclDataType type, uint32_t from, HcclComm comm, aclrtStream stream) {
    return start("HcclRecv", stream, [=] { receive(of(comm), writable(to), count * size_of(type), from); });
}

HcclResult HcclAlltoAll(const void* from, uint64_t send_count, HcclDataType send_type, const void* to,
                        uint64_t receive_count, HcclDataType receive_type, HcclComm comm, aclrtStream stream) {
    return start("HcclAlltoAll", stream, [=] {
        size_t out = send_count * size_of(send_type), in = receive_count * size_of(receive_type);
        all_to_all(of(comm), [&](uint32_t rank) { return std::pair(read_only(from) + rank * out, out); },
                   [&](uint32_t rank) { return std::pair(writable(to) + rank * in, in); });
    });
}

HcclResult HcclAlltoAllV(const void* from, const void* send_counts, const void* send_offsets, HcclDataType send_type,
                         const void* to, const void* receive_counts, const void* receive_offsets,
                         HcclDataType receive_type, HcclComm comm, aclrtStream stream) {
    uint32_t ranks = of(comm).ranks;
    auto out = copied(send_counts, ranks), out_at = copied(send_offsets, ranks);
    auto in = copied(receive_counts, ranks), in_at = copied(receive_offsets, ranks);
    return start("HcclAlltoAllV", stream, [=] {
        size_t out_size = size_of(send_type), in_size = size_of(receive_type);
        all_to_all(of(comm),
                   [&](uint32_t rank) { return std::pair(read_only(from) + out_at[rank] * out_size, out[rank] * out_size); },
                   [&](uint32_t rank) { return std::pair(writable(to) + in_at[rank] * in_size, in[rank] * in_size); });
    });
}

}  // extern "C"
