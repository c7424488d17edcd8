// What the addon keeps per JavaScript environment (main thread or worker).
#pragma once
#include <node_api.h>

#include <cstdint>
#include <unordered_set>
#include <vector>

#include "handles.h"

namespace srum {

struct EnvData;

// Small tensors made outside scopes, watched by the garbage collector as one: the JavaScript objects of a batch all
// hold the object that owns it, and its handles are released when none of them is left. One finalizer serves the whole
// batch.
struct Batch {
  ~Batch();
  std::vector<Handle> handles;
  // Set while this is the environment's present batch. Whichever of the two goes first unties the knot: the object may
  // be collected early, and at the end of an environment nothing promises an order.
  EnvData* present = nullptr;
};

struct EnvData {
  napi_ref errorClass = nullptr;
  // Open scopes, innermost last; each lists the handles made inside it.
  std::vector<std::vector<Handle>> scopes;
  // Where small tensors go while no scope is open; owned by its JavaScript object.
  Batch* batch = nullptr;
  // Handles that JavaScript has been given, outside scopes and batches, and does not watch yet. A worker that ends in
  // between would leave them behind.
  std::unordered_set<Handle> unwatched;
  // Generators made here and not released yet: an ending worker runs no finalization callbacks.
  std::unordered_set<uint64_t> generators;

  // Makes `next` (null: none) the batch that small tensors go to.
  void use(Batch* next) {
    if (batch != nullptr) batch->present = nullptr;
    batch = next;
    if (batch != nullptr) batch->present = this;
  }

  static EnvData* of(napi_env env) {
    void* data = nullptr;
    napi_get_instance_data(env, &data);
    return static_cast<EnvData*>(data);
  }
};

inline Batch::~Batch() {
  if (present != nullptr) present->use(nullptr);
}

}  // namespace srum
