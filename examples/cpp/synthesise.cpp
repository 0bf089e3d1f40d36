// A deformed copy of a label map, an image of it and its X-ray projections:
//   synthesise LIBRARY LABELS.raw DEPTH HEIGHT WIDTH OUTPUT_FOLDER
// LABELS.raw holds uint8 labels 0 to 3, depth slowest. Writes image.raw and projections.raw (float32).
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>

#include "operators.h"

namespace {

at::Tensor read_labels(const std::string& path, at::IntArrayRef size) {
  at::Tensor labels = at::empty({1, 1, size[0], size[1], size[2]}, at::kByte);
  std::ifstream file(path, std::ios::binary);
  file.read(static_cast<char*>(labels.data_ptr()), labels.numel());
  if (file.gcount() != labels.numel() || file.peek() != EOF) {
    throw std::runtime_error(path + " does not hold " + std::to_string(labels.numel()) + " bytes, one per voxel");
  }
  return labels;
}

void write(const std::string& path, const at::Tensor& tensor) {
  at::Tensor values = tensor.contiguous();
  std::ofstream file(path, std::ios::binary);
  file.write(static_cast<const char*>(values.data_ptr()), values.nbytes());
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

void check(const std::string& what, bool holds) {
  if (!holds) throw std::runtime_error("not so: " + what);
  std::cout << "checked: " << what << "\n";
}

void run(const std::string& labels_path, at::IntArrayRef size, const std::string& output) {
  at::Tensor labels = read_labels(labels_path, size);
  at::Tensor velocity = medsynth::resize_field(0.3 * medsynth::rand_normal({1, 3, 4, 4, 4}, /*seed=*/1), size);
  at::Tensor displacement = medsynth::integrate_svf(velocity, /*steps=*/7);
  check("the deformation does not fold", medsynth::jacobian_determinant(displacement).min().item<float>() > 0);

  at::Tensor moved = medsynth::warp_labels(labels, displacement);
  at::Tensor means = at::tensor({0.0f, 60.0f, 120.0f, 200.0f}), stds = at::full({4}, 10.0f);
  at::Tensor image = medsynth::gmm_sample(moved, means, stds, /*seed=*/2);
  write(output + "/image.raw", image);

  std::vector<double> angles;
  for (int view = 0; view < 12; ++view) angles.push_back(M_PI * view / 12);
  at::Tensor tissue = (moved[0] > 0).to(at::kFloat);  // (1, D, H, W), 1 per mm
  int64_t cols = 2 * std::max(size[1], size[2]);
  at::Tensor projections = medsynth::project_parallel(tissue, angles, size[0], cols);
  write(output + "/projections.raw", projections);

  // Every parallel projection of a volume has the volume's sum, up to the model's error between pixels.
  at::Tensor sums = projections.sum({0, 2, 3}, /*keepdim=*/false, at::kDouble);
  double error = ((sums - tissue.sum(at::kDouble)).abs().max() / tissue.sum(at::kDouble)).item<double>();
  check("all 12 projections have the volume's sum within 1 %", error < 0.01);
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 7) {
    std::cerr << "usage: " << argv[0] << " LIBRARY LABELS.raw DEPTH HEIGHT WIDTH OUTPUT_FOLDER\n";
    return 2;
  }
  medsynth::load_operators(argv[1]);
  run(argv[2], {std::stol(argv[3]), std::stol(argv[4]), std::stol(argv[5])}, argv[6]);
  return 0;
} catch (const std::exception& error) {
  std::cerr << "synthesise: " << error.what() << "\n";
  return 1;
}
