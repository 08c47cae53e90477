// The C interface of the native library, bound with ctypes by aqua_jax/memory/native.py.
//
// libaqua_cpu.so and libaqua_cuda.so export the same functions, each over its
// own state; beside them each exports the XLA FFI handlers aqua_page_out,
// aqua_page_in, aqua_fence, aqua_attend_decode and aqua_attend_prefill.
//
// Words: a store is a pool or an arena: pages of equal size, in one or more
// parts (one per shard), each part contiguous. A ticket is a submitted batch of
// page copies. A pool's copies start when its donated array reaches them (the
// handler runs), in the order in which they were opened; copies between arenas
// start at once. Copies that touch the same pages run in the order of opening.
//
// A function returns a value of at least 0, or -1 with `error` filled in. Three
// wait for others, and are bounded: aqua_wait, aqua_close, and on CUDA
// aqua_memory_allocate: up to 30 s for the memory given up before. Making,
// clearing and giving back memory takes as long as touching all of it does: call
// them where that harms nobody. All are thread-safe.
#ifndef AQUA_H_
#define AQUA_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AQUA_EXPORT __attribute__((visibility("default")))
#define AQUA_ABI_VERSION 2

enum aqua_code {
  AQUA_OK = 0,
  AQUA_INVALID = 1,       // a malformed argument
  AQUA_STALE = 2,         // a handle or ticket that is not, or no longer, valid
  AQUA_OUT_OF_RANGE = 3,  // a page, slot or count
  AQUA_EXHAUSTED = 4,     // out of memory, handles or tickets
  AQUA_UNAVAILABLE = 5,   // this machine cannot (peer access, VMM export): `text` has the errno
  AQUA_TIMEOUT = 6,
  AQUA_INTERNAL = 7,  // a fault of this library
  AQUA_CLOSED = 8,
};

typedef struct {
  int32_t code;  // aqua_code
  int32_t line;
  char file[48];
  char text[456];  // what was given, what was expected
} aqua_error;

typedef struct {
  int64_t ticket;       // 0: none's: a program reached a pool that no ticket waited for
  int64_t bytes;        // copied, over all parts; 0 when failed
  int64_t opened_ns;    // CLOCK_MONOTONIC
  int64_t started_ns;   // the first copy began, the fence was first reached; 0: neither
  int64_t finished_ns;  // the last copy ended
  aqua_error error;
} aqua_completion;

enum aqua_memory_kind {
  AQUA_MEMORY_HOST = 1,    // page-locked where there is a GPU
  AQUA_MEMORY_SHARED = 2,  // of other processes too: memfd, mapped by whoever imports it
  AQUA_MEMORY_DEVICE = 3,  // of one GPU, outside XLA's pool, exportable; CPU: ordinary memory
};

AQUA_EXPORT int32_t aqua_abi_version(void);
// JSON: {"abi", "ffi_api": [major, minor], "compiler", "platform": "cpu" or "cuda", "cuda": n or
// null}.
AQUA_EXPORT const char* aqua_build_info(void);

// Starts the transfer threads. threads: CPU: how many; CUDA: ignored. cores: the cores to
// pin them to, or NULL. Called again: an error unless closed before.
AQUA_EXPORT int64_t aqua_start(int32_t threads, const int32_t* cores, int32_t core_count,
                               aqua_error* error);
// Waits (at most `seconds`) for tickets under way, fails the rest with AQUA_CLOSED, joins the
// threads. Completions can still be had from aqua_wait. Idempotent.
AQUA_EXPORT int64_t aqua_close(double seconds, aqua_error* error);

// Memory of our own, zeroed and all there: what the machine does not have is AQUA_EXHAUSTED here,
// not a fault in mid-copy. Returns an id. device: CUDA ordinal, ignored for host kinds.
AQUA_EXPORT int64_t aqua_memory_allocate(int32_t kind, int64_t bytes, int32_t device,
                                         aqua_error* error);
// A file descriptor that the caller owns (to send over a Unix socket and to close).
AQUA_EXPORT int64_t aqua_memory_export(int64_t memory, aqua_error* error);
// Maps another process's memory; `fd` stays the caller's. bytes: what is expected.
AQUA_EXPORT int64_t aqua_memory_import(int32_t kind, int32_t fd, int64_t bytes, int32_t device,
                                       aqua_error* error);
AQUA_EXPORT int64_t aqua_memory_address(int64_t memory, aqua_error* error);
// Gives it up. It is unmapped when its last store has retired and the last copy on that has
// completed, and nobody reads afterwards what it held: shared memory is zeroed for those who have
// it mapped, the kernel zeroes ordinary memory before it hands it out again. An import is unmapped,
// its owner's to zero. CPU: by whoever comes last: this call, aqua_store_retire, or the transfer
// thread of the last copy, whose next ones wait meanwhile; so settle copies first. CUDA: all of it
// is zeroed, by a thread of its own.
AQUA_EXPORT int64_t aqua_memory_free(int64_t memory, aqua_error* error);
// Held, or used still by a store or a copy: for leak tests.
AQUA_EXPORT int64_t aqua_memory_live_bytes(void);

// Registers pages; returns a handle of at least 1. bases, devices: [parts]; device -1: host
// memory. page_bytes: of one part. memory: the id that the parts lie in (kept alive while the
// store or a copy lives), 0: the caller keeps them alive. Refuses parts that overlap another
// live store. Handles are never used again; `aqua_store_slot` is the small number (0..127)
// that stands for a live store in attention's page tables.
AQUA_EXPORT int64_t aqua_store_register(const char* label, int32_t parts, void* const* bases,
                                        const int32_t* devices, int64_t pages, int64_t page_bytes,
                                        int64_t memory, aqua_error* error);
AQUA_EXPORT int64_t aqua_store_slot(int32_t store, aqua_error* error);
// The handle of the live store with a part that begins at `base`. AQUA_STALE: there is none.
AQUA_EXPORT int64_t aqua_store_at(const void* base, aqua_error* error);
// No new plan may name it. Copies under way complete, tickets that its pool has not reached
// fail. Returns the number of copies still under way on it.
AQUA_EXPORT int64_t aqua_store_retire(int32_t store, const char* why, aqua_error* error);
// Tickets not complete on it.
AQUA_EXPORT int64_t aqua_store_busy(int32_t store, aqua_error* error);
// One part of one page, now, unordered with copies: for snapshots and tests.
AQUA_EXPORT int64_t aqua_store_read(int32_t store, int32_t part, int64_t page, void* into,
                                    aqua_error* error);
AQUA_EXPORT int64_t aqua_store_write(int32_t store, int32_t part, int64_t page, const void* from,
                                     aqua_error* error);
// Zeros in every page, now, unordered with copies. Returns the number of bytes.
AQUA_EXPORT int64_t aqua_store_clear(int32_t store, aqua_error* error);

// Opens a batch of copies of pages sources[i] -> targets[i]; returns its ticket. Everything is
// checked here. pool: 0: starts at once; else the store (source or target) whose array, when it
// reaches the handler, starts it. Neighbours merge into one copy.
AQUA_EXPORT int64_t aqua_copy_open(int32_t source, int32_t target, const int32_t* sources,
                                   const int32_t* targets, int32_t count, int32_t pool,
                                   aqua_error* error);
// What runs on the pool after this waits until `tickets` are complete, at most `seconds`. Is a
// ticket itself; a time-out completes it with AQUA_TIMEOUT and lets the pool go on.
AQUA_EXPORT int64_t aqua_fence_open(int32_t pool, const int64_t* tickets, int32_t count,
                                    double seconds, aqua_error* error);
// The pool will never reach this ticket (its program was not enqueued). It fails.
AQUA_EXPORT int64_t aqua_ticket_abandon(int64_t ticket, const char* why, aqua_error* error);
AQUA_EXPORT int64_t aqua_tickets_open(void);  // opened and not complete

// Completions, each once, in order of completion; waits at most `seconds` for the first.
AQUA_EXPORT int64_t aqua_wait(double seconds, aqua_completion* completions, int32_t count);
AQUA_EXPORT void aqua_wake(void);  // ends one running or coming aqua_wait early

#ifdef __cplusplus
}  // extern "C"
#endif
#endif  // AQUA_H_
