// Gradients in C++: gradient LIBRARY
// medsynth_ext declares its gradients in Python, which a C++ program does not load. Every differentiable operator has a
// `_backward` operator beside it; an autograd function of a few lines joins the two, here for `warp`.
#include <torch/csrc/autograd/custom_function.h>

#include <iostream>

#include "operators.h"

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

struct Warp : torch::autograd::Function<Warp> {
  static Variable forward(AutogradContext* context, const Variable& image, const Variable& displacement) {
    context->save_for_backward({image, displacement});
    return medsynth::warp(image, displacement);
  }

  static variable_list backward(AutogradContext* context, variable_list grad) {
    using at::Tensor;
    static auto gradients = medsynth::find<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&,
                                                                      int64_t, double, bool, bool)>("warp_backward");
    auto saved = context->get_saved_variables();
    auto [to_image, to_displacement] = gradients.call(grad[0], saved[0], saved[1], medsynth::clamp, /*fill=*/0.0,
                                                      /*want_img=*/true, /*want_disp=*/true);
    return {to_image, to_displacement};
  }
};

// Finds the shift between two images by following the gradient of their squared difference.
double found_shift(double shift) {
  at::Tensor x = at::arange(64, at::kDouble), fixed = (-(x - 30).square() / 50).exp().view({1, 1, -1});
  at::Tensor moving = (-(x - 30 - shift).square() / 50).exp().view({1, 1, -1});
  at::Tensor guess = at::zeros({1}, at::kDouble).requires_grad_();
  for (int step = 0; step < 200; ++step) {
    at::Tensor loss =
        (Warp::apply(moving, guess.view({1, 1, 1}).expand({1, 1, 64}).contiguous()) - fixed).square().sum();
    loss.backward();
    at::NoGradGuard constant;
    guess -= guess.grad();
    guess.mutable_grad().zero_();
  }
  return guess.item<double>();
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::cerr << "usage: " << argv[0] << " LIBRARY\n";
    return 2;
  }
  medsynth::load_operators(argv[1]);
  double found = found_shift(2.5);
  std::cout << "a shift of 2.5 voxels was found as " << found << "\n";
  return std::abs(found - 2.5) < 1e-3 ? 0 : 1;
} catch (const std::exception& error) {
  std::cerr << "gradient: " << error.what() << "\n";
  return 1;
}
