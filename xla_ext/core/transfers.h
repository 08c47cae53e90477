// Tickets: batches of page copies, in order, from opening to completion.
//
// Knows: stores, plans, order, gates. Does not know: how bytes move (copier.h),
// XLA, CUDA. One mutex guards everything; nothing waits or copies under it.
//
// What may begin when is order.h's. Here it is made thread-safe and carried
// out: jobs go to the copier, completions to whoever waits, fences open.
//
//     CLOSED --Start--> RUNNING --Close--> CLOSING --nothing runs any more--> JOINING --> CLOSED
//
// Gates: tickets of a pool queue up per part, in the order of opening, and each
// Reach() takes the first of the queue of the part at that address: the order
// of calls on one pool comes from the pool's array alone. A fence queues up the
// same way. (CUDA handlers cannot read operands without waiting for the device,
// so the queue, not an operand, says which ticket it is; CPU handlers may be given
// the ticket as an operand too, and then it must agree.) A ticket that failed before
// its pool reached it keeps its place, and reaching it does nothing; only
// Abandon gives the place up.
#ifndef AQUA_CORE_TRANSFERS_H_
#define AQUA_CORE_TRANSFERS_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/alarm.h"
#include "core/clock.h"
#include "core/completions.h"
#include "core/copier.h"
#include "core/order.h"
#include "core/status.h"
#include "core/store.h"
#include "core/ticket.h"

namespace aqua {

// Tickets open or with unread completions, and the length of a gate's queue.
constexpr int64_t kTicketsMax = 4096;

class Transfers {
 public:
  // Closed at first. first_ticket: tests begin near the wrap of 31 bits.
  explicit Transfers(StoreTable* stores, int64_t first_ticket = 1);
  ~Transfers();  // closes, however long it takes

  Status Start(std::unique_ptr<Copier> copier);
  // Bounded: fails what no pool has reached, waits for the rest, then fails what has not begun
  // and joins the copier. AQUA_TIMEOUT: jobs still run; a later call goes on waiting. Start may
  // follow; tickets, completions and gates live on.
  Status Close(double seconds);

  // Host side. Every check is made here. pool: handle of source or target, or 0.
  Result<int64_t> Open(int32_t source, int32_t target, const int32_t* sources,
                       const int32_t* targets, int32_t count, int32_t pool);
  Result<int64_t> OpenFence(int32_t pool, const int64_t* tickets, int32_t count, double seconds);
  Status Abandon(int64_t ticket, const std::string& why);
  Result<int64_t> Retire(int32_t store, const std::string& why);
  Result<int64_t> Busy(int32_t store) const;  // of retired stores too
  int64_t open_count() const;
  int64_t Wait(double seconds, aqua_completion* completions, int32_t count);
  void Wake();

  // Handler side: the array of the pool part at `base` has reached its next entry, which must
  // be of this direction and, when `ticket` is not -1, have these low 31 bits. If it is not, that
  // is no error here: XLA would free the pool under the copies that run. The tickets that wait
  // for the pool fail instead, or a completion of ticket 0 says so. On an error nothing has
  // started. Never blocks.
  Status Reach(const void* base, Direction direction, int32_t ticket, std::shared_ptr<Gate> gate);
  // The same for a fence; `when_open` runs once, perhaps inside this call, when all awaited
  // tickets are complete or the fence has timed out. Its seconds count from here.
  Status ReachFence(const void* base, int32_t ticket, std::function<void()> when_open);

 private:
  enum class Phase { kClosed, kRunning, kClosing, kJoining };

  Result<int64_t> Admit(const std::shared_ptr<Ticket>& ticket,
                        const std::vector<int64_t>& awaited);
  Status CheckAdmission(const Ticket& ticket, const std::vector<int64_t>& awaited) const;
  Status Pass(const void* base, Direction direction, int32_t ticket, std::shared_ptr<Gate> gate,
              std::function<void()> when_open);
  void FailOpen(Order::Which which, const char* why, std::unique_lock<std::mutex>* lock);
  void Finished(const PartOf& job, Status status, int64_t started_ns);
  void Expired(int64_t ticket, int part);
  void Carry(Aftermath after, std::unique_lock<std::mutex>* lock);

  StoreTable* const stores_;
  Completions completions_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // for Close: a ticket completed, or the phase is another
  Phase phase_ = Phase::kClosed;
  int64_t next_ticket_;
  Order order_;
  std::shared_ptr<Copier> copier_;  // shared: a thread may still be leaving its Start
  std::shared_ptr<Alarm> alarm_;
};

}  // namespace aqua
#endif  // AQUA_CORE_TRANSFERS_H_
