// Which job may begin: the order of tickets, as pure state.
//
// Knows: tickets, what they wait for, the queues before gates. Does not know:
// threads, time, how bytes move, XLA. Not thread-safe: Transfers guards it.
//
// A ticket has one job per part. A job begins when its gate was reached and
// every earlier job of that part that touches the same pages is done:
//
//     OPEN --gate reached, earlier ones done--> RUNNING --Finish--> DONE
//     OPEN --Fail--------------------------------------------------> DONE (error)
//
// A ticket's error is that of its first job that failed. Who waited for a job
// that failed runs all the same. Waiting always goes from later to earlier
// tickets, so nothing waits in a circle. The last job completes the ticket: it
// stays among the open ones until Forget, so that who sees it gone sees its
// effects too.
//
// Gates: tickets of a pool queue up per part, in the order of opening. A ticket
// that failed before its pool reached it keeps its place: the program that will
// reach it is enqueued already, and finds that nothing is to be done.
#ifndef AQUA_CORE_ORDER_H_
#define AQUA_CORE_ORDER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "core/status.h"
#include "core/store.h"
#include "core/ticket.h"

namespace aqua {

class Order {
 public:
  // Puts the ticket behind those it must wait for; `awaited`: of a fence, those that are not open
  // count as complete. When it throws, nothing has changed.
  void Admit(const std::shared_ptr<Ticket>& ticket, const std::vector<int64_t>& awaited,
             Aftermath* after);

  // Takes the first of the queue of that part, which must be what the handler says (ticket -1:
  // it cannot say). On an error the queue stays as it is: programs that are still to come find
  // their tickets.
  Result<std::shared_ptr<Ticket>> TakeReached(const Store& store, int part, Direction direction,
                                              int32_t ticket);
  // A job that was taken and is not done may begin as far as its gate goes.
  void Reached(const PartOf& job, Aftermath* after);
  void Finish(const PartOf& job, Status status, Aftermath* after);

  // Fails the jobs that were not reached, or all that have not begun.
  enum class Which { kUnreached, kNotBegun };
  void Fail(const std::vector<std::shared_ptr<Ticket>>& tickets, Which which, const Status& status,
            Aftermath* after);
  // Takes the ticket out of all queues; whether it was in one.
  bool LeaveQueues(int64_t ticket);
  void DropQueues(int32_t pool);
  void Forget(int64_t ticket);

  size_t open_count() const { return open_.size(); }
  std::shared_ptr<Ticket> Find(int64_t ticket) const;  // null: not open
  std::vector<std::shared_ptr<Ticket>> Open() const;
  std::vector<std::shared_ptr<Ticket>> OpenOn(int32_t store) const;
  size_t longest_queue(int32_t pool) const;

 private:
  using TicketPtr = std::shared_ptr<Ticket>;
  using Queue = std::deque<TicketPtr>;

  void Link(const TicketPtr& ticket, const std::vector<int64_t>& awaited);
  void Unlink(const Ticket& ticket);
  void TryBegin(const PartOf& job, Aftermath* after);
  void FinishOne(const PartOf& job, Status status, Aftermath* after);
  void Release(const PartOf& job);
  void Settle(Aftermath* after);

  std::map<int64_t, TicketPtr> open_;
  std::unordered_map<int32_t, std::vector<Queue>> queues_;  // by pool, by part
  std::vector<PartOf> ready_;  // waited for nothing more, not looked at yet
};

}  // namespace aqua
#endif  // AQUA_CORE_ORDER_H_
