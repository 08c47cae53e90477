// See host_memory.h.
#include "cuda/host_memory.h"

#include <cuda_runtime_api.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include "core/machine.h"
#include "core/status.h"
#include "core/store.h"
#include "cuda/runtime.h"

namespace aqua {
namespace {

constexpr unsigned kEveryDevice = cudaHostAllocPortable | cudaHostAllocMapped;
static_assert(cudaHostAllocPortable == cudaHostRegisterPortable &&
              cudaHostAllocMapped == cudaHostRegisterMapped);

// A file that others map keeps its size, or they would meet its end (SIGBUS).
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

#define AQUA_SYSTEM_ERROR(what)                                                             \
  AQUA_ERROR(errno == ENOMEM || errno == EMFILE ? AQUA_EXHAUSTED : AQUA_UNAVAILABLE,        \
             "%s of %lld bytes: errno %d (%s)", (what), static_cast<long long>(bytes), errno, \
             std::strerror(errno))

class PinnedMemory final : public Memory {
 public:
  PinnedMemory(void* base, int64_t bytes) : base_(base), bytes_(bytes) {}
  ~PinnedMemory() override {
    std::memset(base_, 0, static_cast<size_t>(bytes_));
    (void)cudaFreeHost(base_);
  }
  std::byte* base() const override { return static_cast<std::byte*>(base_); }
  int64_t bytes() const override { return bytes_; }
  Result<int> Export() const override {
    return AQUA_ERROR(AQUA_INVALID,
                      "memory of kind AQUA_MEMORY_HOST is of this process alone: allocate it as "
                      "AQUA_MEMORY_SHARED");
  }

 private:
  void* const base_;
  const int64_t bytes_;
};

class SharedMemory final : public Memory {
 public:
  SharedMemory(int fd, int64_t bytes, bool is_import)
      : fd_(fd), bytes_(bytes), is_import_(is_import) {}
  ~SharedMemory() override;

  std::byte* base() const override { return static_cast<std::byte*>(base_); }
  int64_t bytes() const override { return bytes_; }
  Result<int> Export() const override;

  Status Map();

 private:
  const int fd_;  // ours
  const int64_t bytes_;
  const bool is_import_;
  void* base_ = nullptr;
  bool is_registered_ = false;
};

SharedMemory::~SharedMemory() {
  if (base_ != nullptr) {
    if (!is_import_) std::memset(base_, 0, static_cast<size_t>(bytes_));
    if (is_registered_) (void)cudaHostUnregister(base_);
    (void)munmap(base_, static_cast<size_t>(bytes_));
  }
  (void)close(fd_);
}

Status SharedMemory::Map() {
  const size_t bytes = static_cast<size_t>(bytes_);
  void* const base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (base == MAP_FAILED) return AQUA_SYSTEM_ERROR("mmap");
  base_ = base;
  AQUA_RETURN_IF_CUDA_ERROR(cudaHostRegister(base_, bytes, kEveryDevice));
  is_registered_ = true;
  return {};
}

Result<int> SharedMemory::Export() const {
  const int64_t bytes = bytes_;
  const int fd = fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return AQUA_SYSTEM_ERROR("a second descriptor");
  return fd;
}

Result<std::unique_ptr<Memory>> MapShared(int fd, int64_t bytes, bool is_import) {
  auto memory = std::make_unique<SharedMemory>(fd, bytes, is_import);
  AQUA_RETURN_IF_ERROR(memory->Map());
  return std::unique_ptr<Memory>(std::move(memory));
}

}  // namespace

Result<std::unique_ptr<Memory>> MakePinnedMemory(int64_t bytes) {
  AQUA_RETURN_IF_ERROR(CheckAvailable(bytes));
  void* base = nullptr;
  AQUA_RETURN_IF_CUDA_ERROR(cudaHostAlloc(&base, static_cast<size_t>(bytes), kEveryDevice));
  std::memset(base, 0, static_cast<size_t>(bytes));
  return std::unique_ptr<Memory>(std::make_unique<PinnedMemory>(base, bytes));
}

Result<std::unique_ptr<Memory>> MakeSharedMemory(int64_t bytes) {
  AQUA_RETURN_IF_ERROR(CheckAvailable(bytes));
  const int fd = memfd_create("aqua", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return AQUA_SYSTEM_ERROR("memfd_create");
  if (ftruncate(fd, bytes) != 0 || fcntl(fd, F_ADD_SEALS, kSeals) != 0) {
    const Status status = AQUA_SYSTEM_ERROR("sizing shared memory");
    (void)close(fd);
    return status;
  }
  return MapShared(fd, bytes, false);
}

Result<std::unique_ptr<Memory>> ImportSharedMemory(int fd, int64_t bytes) {
  struct stat facts;
  if (fstat(fd, &facts) != 0) return AQUA_SYSTEM_ERROR("fstat of a descriptor");
  if (facts.st_size < bytes) {
    return AQUA_ERROR(AQUA_INVALID, "descriptor %d has %lld bytes behind it, expected %lld", fd,
                      static_cast<long long>(facts.st_size), static_cast<long long>(bytes));
  }
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    return AQUA_ERROR(AQUA_INVALID,
                      "descriptor %d can shrink: expected one of aqua_memory_export", fd);
  }
  const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (own < 0) return AQUA_SYSTEM_ERROR("a second descriptor");
  return MapShared(own, bytes, true);
}

}  // namespace aqua
