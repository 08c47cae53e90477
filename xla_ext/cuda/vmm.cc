// See vmm.h.
//
//     create or import -> reserve addresses -> map -> give access
//
// and back in the other order, as far as it came.
#include "cuda/vmm.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/status.h"
#include "core/store.h"
#include "cuda/driver.h"
#include "cuda/runtime.h"

namespace aqua {
namespace {

constexpr CUmemAllocationHandleType kDescriptor = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;

class DeviceMemory final : public Memory {
 public:
  DeviceMemory(const Driver& driver, int64_t bytes, int device)
      : driver_(driver), bytes_(bytes), device_(device) {}
  ~DeviceMemory() override;

  std::byte* base() const override { return reinterpret_cast<std::byte*>(address_); }
  int64_t bytes() const override { return bytes_; }
  Result<int> Export() const override;

  Status Create();
  Status Import(int fd);

 private:
  // Of one allocation on `device_`, which others may import where `exportable`.
  static CUmemAllocationProp Properties(int device, bool exportable);
  Status FindMappedBytes();
  Status CheckFree() const;
  Status CreateHandle();
  Status Map();
  Status Zero() const;

  const Driver& driver_;
  const int64_t bytes_;
  const int device_;
  size_t mapped_bytes_ = 0;  // bytes_ rounded up to the granularity
  CUmemGenericAllocationHandle handle_ = 0;
  CUdeviceptr address_ = 0;
  bool has_handle_ = false, has_mapping_ = false, is_import_ = false;
  Status not_exportable_;  // OK: it is
};

CUmemAllocationProp DeviceMemory::Properties(int device, bool exportable) {
  CUmemAllocationProp properties = {};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.requestedHandleTypes = exportable ? kDescriptor : CU_MEM_HANDLE_TYPE_NONE;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties.location.id = device;
  return properties;
}

Status DeviceMemory::FindMappedBytes() {
  const CUmemAllocationProp properties = Properties(device_, true);
  size_t unit = 0;
  AQUA_RETURN_IF_DRIVER_ERROR(driver_.MemGetAllocationGranularity(
      &unit, &properties, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED));
  if (unit == 0) return AQUA_ERROR(AQUA_INTERNAL, "CUDA reports a granularity of 0 bytes");
  mapped_bytes_ = (static_cast<size_t>(bytes_) + unit - 1) / unit * unit;
  return {};
}

// A sandbox may forbid memory that can be exported; memory that cannot is of use all the same,
// and Export says why.
Status DeviceMemory::CreateHandle() {
  const CUmemAllocationProp exportable = Properties(device_, true);
  not_exportable_ = AQUA_DRIVER_STATUS(driver_.MemCreate(&handle_, mapped_bytes_, &exportable, 0));
  if (not_exportable_.code == AQUA_EXHAUSTED) return not_exportable_;
  if (!not_exportable_.ok()) {
    const CUmemAllocationProp plain = Properties(device_, false);
    AQUA_RETURN_IF_DRIVER_ERROR(driver_.MemCreate(&handle_, mapped_bytes_, &plain, 0));
  }
  has_handle_ = true;
  return {};
}

Status DeviceMemory::CheckFree() const {
  size_t free_bytes = 0, all_bytes = 0;
  AQUA_RETURN_IF_CUDA_ERROR(cudaMemGetInfo(&free_bytes, &all_bytes));
  if (mapped_bytes_ <= free_bytes) return {};
  return AQUA_ERROR(AQUA_EXHAUSTED,
                    "%zu bytes on device %d: it has %zu free of %zu; XLA may hold them "
                    "(XLA_CLIENT_MEM_FRACTION)",
                    mapped_bytes_, device_, free_bytes, all_bytes);
}

Status DeviceMemory::Create() {
  AQUA_RETURN_IF_ERROR(FindMappedBytes());
  AQUA_RETURN_IF_ERROR(CheckFree());
  AQUA_RETURN_IF_ERROR(CreateHandle());
  AQUA_RETURN_IF_ERROR(Map());
  return Zero();
}

Status DeviceMemory::Import(int fd) {
  is_import_ = true;
  AQUA_RETURN_IF_ERROR(FindMappedBytes());
  // The descriptor travels in a pointer's clothes.
  void* const descriptor = reinterpret_cast<void*>(static_cast<uintptr_t>(fd));
  AQUA_RETURN_IF_DRIVER_ERROR(
      driver_.MemImportFromShareableHandle(&handle_, descriptor, kDescriptor));
  has_handle_ = true;
  return Map();
}

Status DeviceMemory::Map() {
  AQUA_RETURN_IF_DRIVER_ERROR(driver_.MemAddressReserve(&address_, mapped_bytes_, 0, 0, 0));
  AQUA_RETURN_IF_DRIVER_ERROR(driver_.MemMap(address_, mapped_bytes_, 0, handle_, 0));
  has_mapping_ = true;
  int devices = 0;
  AQUA_RETURN_IF_CUDA_ERROR(cudaGetDeviceCount(&devices));
  std::vector<CUmemAccessDesc> access;
  for (int device = 0; device < devices; ++device) {
    int can = device == device_;
    if (!can) AQUA_RETURN_IF_CUDA_ERROR(cudaDeviceCanAccessPeer(&can, device, device_));
    if (!can) continue;
    CUmemAccessDesc one = {};
    one.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    one.location.id = device;
    one.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    access.push_back(one);
  }
  return AQUA_DRIVER_STATUS(
      driver_.MemSetAccess(address_, mapped_bytes_, access.data(), access.size()));
}

Status DeviceMemory::Zero() const {
  Result<Stream> stream = MakeStream();
  if (!stream.ok()) return stream.status();
  void* const target = reinterpret_cast<void*>(address_);
  AQUA_RETURN_IF_CUDA_ERROR(cudaMemsetAsync(target, 0, mapped_bytes_, stream.value().get()));
  return AQUA_CUDA_STATUS(cudaStreamSynchronize(stream.value().get()));
}

DeviceMemory::~DeviceMemory() {
  const DeviceScope scope(device_);
  // Memory that cannot be scrubbed belongs to a device that has failed: nothing can read it.
  if (has_mapping_ && !is_import_) (void)Zero();
  if (has_mapping_) (void)driver_.MemUnmap(address_, mapped_bytes_);
  if (address_ != 0) (void)driver_.MemAddressFree(address_, mapped_bytes_);
  if (has_handle_) (void)driver_.MemRelease(handle_);
}

Result<int> DeviceMemory::Export() const {
  if (is_import_) return AQUA_ERROR(AQUA_INVALID, "an import is exported by its owner");
  if (!not_exportable_.ok()) {
    return AQUA_ERROR(not_exportable_.code, "no memory was had that can be exported: %s",
                      not_exportable_.text.c_str());
  }
  int fd = -1;
  AQUA_RETURN_IF_DRIVER_ERROR(driver_.MemExportToShareableHandle(&fd, handle_, kDescriptor, 0));
  return fd;
}

// Makes the device's context current, which a device's first use creates.
Result<std::unique_ptr<DeviceMemory>> Prepare(int64_t bytes, int device) {
  const Result<const Driver*> driver = TheDriver();
  if (!driver.ok()) return driver.status();
  CUdevice handle = 0;
  AQUA_RETURN_IF_DRIVER_ERROR(driver.value()->DeviceGet(&handle, device));
  int supported = 0;
  AQUA_RETURN_IF_DRIVER_ERROR(driver.value()->DeviceGetAttribute(
      &supported, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, handle));
  if (!supported) {
    return AQUA_ERROR(AQUA_UNAVAILABLE, "device %d has no virtual memory management", device);
  }
  AQUA_RETURN_IF_CUDA_ERROR(cudaFree(nullptr));
  return std::make_unique<DeviceMemory>(*driver.value(), bytes, device);
}

}  // namespace

Result<std::unique_ptr<Memory>> MakeDeviceMemory(int64_t bytes, int device) {
  const DeviceScope scope(device);
  Result<std::unique_ptr<DeviceMemory>> memory = Prepare(bytes, device);
  if (!memory.ok()) return memory.status();
  AQUA_RETURN_IF_ERROR(memory.value()->Create());
  return std::unique_ptr<Memory>(std::move(memory).value());
}

Result<std::unique_ptr<Memory>> ImportDeviceMemory(int fd, int64_t bytes, int device) {
  const DeviceScope scope(device);
  Result<std::unique_ptr<DeviceMemory>> memory = Prepare(bytes, device);
  if (!memory.ok()) return memory.status();
  AQUA_RETURN_IF_ERROR(memory.value()->Import(fd));
  return std::unique_ptr<Memory>(std::move(memory).value());
}

}  // namespace aqua
