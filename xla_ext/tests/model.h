// What pages should hold: a plain model of copies, in the order in which they were opened.
//
// Knows: stores as numbers, pages as stamps. Does not know: threads, tickets.
//
// A page is filled from a stamp, so one number stands for its bytes, and a torn
// page is noticed. When a copy failed it is not known of each part whether it had
// run already: the page then has several candidates.
#ifndef AQUA_TESTS_MODEL_H_
#define AQUA_TESTS_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace aqua::harness {

using Stamp = uint64_t;

// bytes: a multiple of 8.
void FillPage(Stamp stamp, std::byte* page, int64_t bytes);
bool HoldsPage(Stamp stamp, const std::byte* page, int64_t bytes);

enum class Ran { kYes, kNo, kPerhaps };

class Model {
 public:
  // Returns the store's number. Page p of part k holds stamp `first` + k * pages + p.
  int AddStore(int parts, int pages, Stamp first);

  void Copy(int source, int target, int part, const std::vector<int32_t>& sources,
            const std::vector<int32_t>& targets, Ran ran);
  void Write(int store, int part, int32_t page, Stamp stamp);

  const std::vector<Stamp>& Candidates(int store, int part, int32_t page) const;

 private:
  std::vector<std::vector<std::vector<std::vector<Stamp>>>> stores_;  // [store][part][page]
};

}  // namespace aqua::harness
#endif  // AQUA_TESTS_MODEL_H_
