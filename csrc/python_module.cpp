// medsynth_ext._C: loads the operator library and answers questions about the build. It links to nothing but libdl, so
// importing it says clearly what is wrong when the operators cannot be loaded.
#include <dlfcn.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

namespace {

void* library = nullptr;

template <class F>
F symbol(const char* name) {
  if (library == nullptr) throw std::runtime_error("the operator library is not loaded");
  void* found = dlsym(library, name);
  if (found == nullptr) throw std::runtime_error(std::string("the operator library lacks ") + name);
  return reinterpret_cast<F>(found);
}

void load_operators(const std::string& path) {
  if (library != nullptr) return;
  library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(dlerror());
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Loads the medsynth_ext operators.";
  m.def("load_operators", &load_operators, pybind11::arg("path"), "Load the operator library; torch must be imported.");
  m.def(
      "build_info", [] { return std::string(symbol<const char* (*)()>("medsynth_build_info")()); },
      "Facts of build and hardware as a JSON object.");
  m.def(
      "set_isa", [](int isa) { return symbol<int (*)(int)>("medsynth_set_isa")(isa); }, pybind11::arg("isa"),
      "Use at most this instruction set (0 base, 1 avx2, 2 avx512); returns the one in use.");
  m.def("workspace_bytes", [] { return symbol<long long (*)()>("medsynth_workspace_bytes")(); });
  m.def("release_workspaces", [] { symbol<void (*)()>("medsynth_release_workspaces")(); });
}
