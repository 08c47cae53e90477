#include "tests/model.h"

#include <algorithm>
#include <cstring>

namespace aqua::harness {
namespace {

// splitmix64
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

void FillPage(Stamp stamp, std::byte* page, int64_t bytes) {
  uint64_t word = Mix(stamp);
  for (int64_t at = 0; at < bytes; at += 8, word += 0x9e3779b97f4a7c15u) {
    std::memcpy(page + at, &word, 8);
  }
}

bool HoldsPage(Stamp stamp, const std::byte* page, int64_t bytes) {
  uint64_t word = Mix(stamp);
  for (int64_t at = 0; at < bytes; at += 8, word += 0x9e3779b97f4a7c15u) {
    if (std::memcmp(page + at, &word, 8) != 0) return false;
  }
  return true;
}

int Model::AddStore(int parts, int pages, Stamp first) {
  std::vector<std::vector<std::vector<Stamp>>> store(parts);
  for (int part = 0; part < parts; ++part) {
    for (int page = 0; page < pages; ++page) {
      store[part].push_back({first + static_cast<Stamp>(part) * pages + page});
    }
  }
  stores_.push_back(std::move(store));
  return static_cast<int>(stores_.size()) - 1;
}

void Model::Copy(int source, int target, int part, const std::vector<int32_t>& sources,
                 const std::vector<int32_t>& targets, Ran ran) {
  if (ran == Ran::kNo) return;
  for (size_t i = 0; i < sources.size(); ++i) {
    const std::vector<Stamp>& from = stores_[source][part][sources[i]];
    std::vector<Stamp>& to = stores_[target][part][targets[i]];
    if (ran == Ran::kYes) {
      to = from;
      continue;
    }
    for (Stamp stamp : from) {
      if (std::find(to.begin(), to.end(), stamp) == to.end()) to.push_back(stamp);
    }
  }
}

void Model::Write(int store, int part, int32_t page, Stamp stamp) {
  stores_[store][part][page] = {stamp};
}

const std::vector<Stamp>& Model::Candidates(int store, int part, int32_t page) const {
  return stores_[store][part][page];
}

}  // namespace aqua::harness
