// Runs a module that Python exported, without Python: run_exported LIBRARY MODULE LABELS.raw DEPTH HEIGHT WIDTH
// OUTPUT.raw MODULE is a TorchScript file (.pt) or an AOTInductor package (.pt2) that takes labels (1, 1, D, H, W),
// uint8.
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/script.h>

#include <fstream>
#include <iostream>

#include "operators.h"

namespace {

at::Tensor call(const std::string& path, const at::Tensor& input) {
  if (path.ends_with(".pt2")) return torch::inductor::AOTIModelPackageLoader(path).run({input})[0];
  return torch::jit::load(path).forward({input}).toTensor();
}

void run(char** arguments) {
  medsynth::load_operators(arguments[1]);  // before the module, which names the operators
  std::vector<int64_t> size{1, 1, std::stol(arguments[4]), std::stol(arguments[5]), std::stol(arguments[6])};
  at::Tensor labels = at::empty(size, at::kByte);
  std::ifstream(arguments[3], std::ios::binary).read(static_cast<char*>(labels.data_ptr()), labels.numel());
  c10::InferenceMode inference;
  at::Tensor result = call(arguments[2], labels).contiguous();
  std::ofstream(arguments[7], std::ios::binary).write(static_cast<const char*>(result.data_ptr()), result.nbytes());
  std::cout << "wrote " << result.sizes() << " to " << arguments[7] << "\n";
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 8) {
    std::cerr << "usage: " << argv[0] << " LIBRARY MODULE LABELS.raw DEPTH HEIGHT WIDTH OUTPUT.raw\n";
    return 2;
  }
  run(argv);
  return 0;
} catch (const std::exception& error) {
  std::cerr << "run_exported: " << error.what() << "\n";
  return 1;
}
