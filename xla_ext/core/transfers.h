// Tickets: batches of page copies, in order, from opening to completion.
//
// Knows: stores, plans, order, gates. Does not know: how bytes move (copier.h),
// XLA, CUDA. One mutex guards everything; nothing waits or copies under it.
//
// A ticket has one job per part. A job starts when its gate was reached and
// every earlier ticket that touches the same pages has completed:
//
//     OPEN --gate reached, earlier ones complete--> RUNNING --last byte--> DONE
//     OPEN --Abandon, Retire, Close---------------------------------------> DONE (error)
//
// Gates: tickets of a pool queue up per part, in the order of opening, and each
// Reach() takes the first of the queue of the part at that address: the order
// of calls on one pool comes from the pool's array alone. A fence queues up the
// same way. (CUDA handlers cannot read operands without waiting for the device,
// so the queue, not an operand, says which ticket it is; CPU handlers are given
// the ticket as an operand too, and it must agree.)
#ifndef AQUA_CORE_TRANSFERS_H_
#define AQUA_CORE_TRANSFERS_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/copier.h"
#include "core/status.h"
#include "core/store.h"

namespace aqua {

enum class Direction { kOut, kIn, kFence };

class Transfers {
 public:
  Transfers(StoreTable* stores, std::unique_ptr<Copier> copier);
  ~Transfers();

  // Host side. Every check is made here. pool: handle of source or target, or 0.
  Result<int64_t> Open(int32_t source, int32_t target, const int32_t* sources,
                       const int32_t* targets, int32_t count, int32_t pool);
  Result<int64_t> OpenFence(int32_t pool, const int64_t* tickets, int32_t count, double seconds);
  Status Abandon(int64_t ticket, const std::string& why);
  Result<int64_t> Retire(int32_t store, const std::string& why);
  int64_t Busy(const Store& store) const;
  int64_t open_count() const;
  int64_t Wait(double seconds, aqua_completion* completions, int32_t count);
  void Wake();
  // Bounded: waits for running jobs, fails what was not started, joins the copier.
  Status Close(double seconds);

  // Handler side: the array of the pool part at `base` has reached its next entry, which must
  // be of this direction and, when `ticket` is not -1, have these low 31 bits. On an error
  // nothing has started. Never blocks.
  Status Reach(const void* base, Direction direction, int32_t ticket, std::shared_ptr<Gate> gate);
  // The same for a fence; `when_open` runs once, perhaps inside this call, when all awaited
  // tickets are complete or the fence has timed out.
  Status ReachFence(const void* base, int32_t ticket, std::function<void()> when_open);
};

}  // namespace aqua
#endif  // AQUA_CORE_TRANSFERS_H_
