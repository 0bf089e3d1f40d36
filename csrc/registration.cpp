// The schema of every operator, sorted by name. Kernels are registered beside their doors; fake kernels and gradients
// are declared in medsynth_ext/ops. `_out` forms write into a given tensor and have no gradient.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(medsynth_ext, m) {
  // Label or image at M (x + d(x)): affine and displacement in one sampling; fill as a number of the source's type.
  m.def(
      "affine_svf_warp(Tensor src, Tensor matrix, Tensor? disp, int[] out_shape, int[] out_origin, int[] grid_shape, "
      "int rule, int sampling, int border, float fill) -> Tensor");
  // Gradients to src, to the moved location (B, D, *out) and to the matrix (float64), over the whole batch; empty where
  // not wanted. Linear mode only.
  m.def(
      "affine_svf_warp_backward(Tensor grad, Tensor src, Tensor matrix, Tensor? disp, int[] out_shape, "
      "int[] out_origin, int[] grid_shape, int rule, int border, float fill, bool want_src, bool want_moved, "
      "bool want_matrix) -> (Tensor, Tensor, Tensor)");
  m.def(
      "affine_svf_warp_out(Tensor src, Tensor matrix, Tensor? disp, int[] out_shape, int[] out_origin, "
      "int[] grid_shape, int rule, int sampling, int border, float fill, Tensor(a!) out) -> ()");
  // u2(x) + u1(x + u2(x)) for fields (B, D, *S), in voxels; border 0 clamp, 1 zeros, 2 reflect.
  m.def("compose(Tensor u1, Tensor u2, int border) -> Tensor");
  // Gradients to u1 and to u2, both with the whole batch.
  m.def("compose_backward(Tensor grad, Tensor u1, Tensor u2, int border) -> (Tensor, Tensor)");
  m.def("compose_out(Tensor u1, Tensor u2, int border, Tensor(a!) out) -> ()");
  // int32 labels of the connected regions of masks (N, *S), in raster order; full: corners connect, else faces.
  m.def("connected_components(Tensor mask, bool full) -> Tensor");
  // The exact transpose of ct_forward: projections (N, views, rows, cols) -> volumes (N, Z, Y, X).
  m.def(
      "ct_adjoint(Tensor proj, Tensor vectors, int[] vol_shape, float[] spacing, float[] center, bool diverging, bool "
      "flat, bool siddon) -> Tensor");
  m.def(
      "ct_adjoint_out(Tensor proj, Tensor vectors, int[] vol_shape, float[] spacing, float[] center, bool diverging, "
      "bool flat, bool siddon, Tensor(a!) out) -> ()");
  // Sum over views of scale * proj at M (x, y, z, 1), M (views, 3, 4) from voxel to pixel indices; weighted: over
  // depth^2.
  m.def("ct_backproject(Tensor proj, Tensor matrices, Tensor scale, int[] vol_shape, bool weighted) -> Tensor");
  m.def(
      "ct_backproject_out(Tensor proj, Tensor matrices, Tensor scale, int[] vol_shape, bool weighted, Tensor(a!) out) "
      "-> ()");
  // Its exact transpose: volumes (N, Z, Y, X) -> projections (N, views, rows, cols).
  m.def(
      "ct_backproject_transposed(Tensor vol, Tensor matrices, Tensor scale, int[] det_shape, bool weighted) -> "
      "Tensor");
  // Line integrals of volumes (N, Z, Y, X) for views with frames s or r, d, u, v (views, 12) float64, all in mm (x, y,
  // z); flat: one slice, one row, rays in the slice.
  m.def(
      "ct_forward(Tensor vol, Tensor vectors, int[] det_shape, float[] spacing, float[] center, bool diverging, bool "
      "flat, bool siddon) -> Tensor");
  m.def(
      "ct_forward_out(Tensor vol, Tensor vectors, int[] det_shape, float[] spacing, float[] center, bool diverging, "
      "bool flat, bool siddon, Tensor(a!) out) -> ()");
  // Gaussian blur of (B, C, *S), sigma (B, axes) float64; border 0 replicate, 1 zeros, 2 reflect; transposed: the
  // adjoint.
  m.def("gaussian_blur(Tensor x, Tensor sigma, float truncate, int border, bool transposed) -> Tensor");
  m.def("gaussian_blur_out(Tensor x, Tensor sigma, float truncate, int border, bool transposed, Tensor(a!) out) -> ()");
  // Intensities from labels (B, *S): means and stds (B, K, C); lut maps label values to classes. -> (B, C, *S)
  m.def(
      "gmm_sample(Tensor labels, Tensor means, Tensor stds, Tensor? lut, SymInt seed, SymInt sample_offset, "
      "int stream, int[] index_shape, int[] index_origin, bool validate) -> Tensor");
  // Sums of grad (B, C, *S) over the voxels of each class, plain and times the noise: (B, K, C) each, empty if not
  // asked.
  m.def(
      "gmm_sample_backward(Tensor grad, Tensor labels, Tensor? lut, SymInt classes, bool to_means, bool to_stds, "
      "SymInt seed, SymInt sample_offset, int stream, int[] index_shape, int[] index_origin) -> (Tensor, Tensor)");
  m.def(
      "gmm_sample_out(Tensor labels, Tensor means, Tensor stds, Tensor? lut, SymInt seed, SymInt sample_offset, "
      "int stream, int[] index_shape, int[] index_origin, bool validate, Tensor(a!) out) -> ()");
  // Density moments of maps (N, *S), weights 0 softmax of beta h, 1 h above the threshold; window 0: all voxels.
  // Returns float64 mass (N), mean (N, D), covariance (N, D, D), third central moments (N, D, D, D) or nothing, and the
  // state (N, 3) that the backward needs.
  m.def(
      "heatmap_moments(Tensor maps, int weights, float beta, float threshold, int window, bool third) -> (Tensor, "
      "Tensor, Tensor, Tensor, Tensor)");
  // The gradient to maps as weights times constant (N) + linear (N, D) v + v quadratic (N, D, D) v, v from the mean.
  m.def(
      "heatmap_moments_backward(Tensor maps, Tensor state, Tensor mean, Tensor constant, Tensor linear, Tensor "
      "quadratic, int weights, float beta, float threshold, int window) -> Tensor");
  // The largest voxel of maps (N, *S): refined coordinates (N, D), value (N), index (N) or -1; refine 0 none, 1
  // parabola, 2 log_parabola, 3 dark, 4 centre of mass.
  m.def("heatmap_peak(Tensor maps, int refine, int window, float smooth) -> (Tensor, Tensor, Tensor)");
  // The first max_peaks local maxima: coordinates (N, K, D), values (N, K), how many (N).
  m.def(
      "heatmap_peaks_nms(Tensor maps, float threshold, float radius, int max_peaks, int window, int refine, float "
      "smooth, int border, float[] spacing, bool all_ties) -> (Tensor, Tensor, Tensor)");
  // Scaling and squaring of velocity (B, D, *S), in voxels; border 0 clamp, 1 zeros, 2 reflect.
  m.def("integrate_svf(Tensor velocity, int steps, int border, bool inverse) -> Tensor");
  // `levels` from integrate_svf_saving, or an empty tensor.
  m.def(
      "integrate_svf_backward(Tensor grad, Tensor velocity, Tensor levels, int steps, int border, bool inverse) -> "
      "Tensor");
  m.def("integrate_svf_out(Tensor velocity, int steps, int border, bool inverse, Tensor(a!) out) -> ()");
  // Also returns the intermediate fields (B, steps, voxels, 4), which spare the backward their recomputation.
  m.def("integrate_svf_saving(Tensor velocity, int steps, int border, bool inverse) -> (Tensor, Tensor)");
  // det(I + grad u), (B, 1, *S), of a displacement (B, D, *S).
  m.def("jacobian_determinant(Tensor displacement) -> Tensor");
  m.def("jacobian_determinant_backward(Tensor grad, Tensor displacement) -> Tensor");
  m.def("jacobian_determinant_out(Tensor displacement, Tensor(a!) out) -> ()");
  // out[b, x] = table[b, labels[b, x]]; returns the first position per sample whose label has no entry, or -1.
  m.def("map_labels_out(Tensor labels, Tensor table, Tensor(a!) out) -> Tensor");
  // out[i,j,k] = z[k,i,j] y[j,k,i] x[i,j,k] for stacks of slices (B, K, I, J), (B, J, K, I), (B, I, J, K); log: the
  // exponential of the sum.
  m.def("ortho_slice_product(Tensor z, Tensor y, Tensor x, bool log) -> Tensor");
  // Gradients to z, y and x.
  m.def(
      "ortho_slice_product_backward(Tensor grad, Tensor z, Tensor y, Tensor x, bool log) -> (Tensor, Tensor, Tensor)");
  m.def("ortho_slice_product_out(Tensor z, Tensor y, Tensor x, bool log, Tensor(a!) out) -> ()");
  // Philox4x32-10 words for counters (N, 4) int64 (each < 2^32) and a key of two words; int64 (N, 4).
  m.def("philox_raw(Tensor counters, int key0, int key1) -> Tensor");
  // Random numbers into out (B, C, *S): integers in [0, n), normal, uniform in [low, high).
  m.def(
      "rand_int_out(int n, SymInt seed, SymInt sample_offset, int stream, int[] index_shape, int[] index_origin, "
      "Tensor(a!) out) -> ()");
  m.def(
      "rand_normal_out(SymInt seed, SymInt sample_offset, int stream, int[] index_shape, int[] index_origin, "
      "Tensor(a!) out) -> ()");
  m.def(
      "rand_uniform_out(float low, float high, SymInt seed, SymInt sample_offset, int stream, int[] index_shape, "
      "int[] index_origin, Tensor(a!) out) -> ()");
  // Sums over regions 1..regions of labels (N, H, W), with q (N, H, W) uint8: (N, regions, 11) int64, see
  // region_sums.h; cut (N, regions, 4) parts regions in two, for (N, 2 regions, 11).
  m.def("region_sums(Tensor labels, Tensor q, Tensor? cut, int regions) -> Tensor");
  // Gaussians at points (M, D) with sigma and half widths of their boxes (M, D) and amplitudes (M), into maps (maps,
  // *size); order and offsets say which points belong to which map, without them point i belongs to map i.
  m.def(
      "render_heatmaps(Tensor points, Tensor sigma, Tensor half, Tensor amplitude, Tensor? order, Tensor? offsets, int "
      "maps, int[] size, bool sum) -> Tensor");
  // Gradients to points, sigma and amplitude.
  m.def(
      "render_heatmaps_backward(Tensor grad, Tensor points, Tensor sigma, Tensor half, Tensor amplitude, Tensor? "
      "order, "
      "Tensor? offsets, bool sum) -> (Tensor, Tensor, Tensor)");
  m.def(
      "render_heatmaps_out(Tensor points, Tensor sigma, Tensor half, Tensor amplitude, Tensor? order, Tensor? offsets, "
      "int maps, int[] size, bool sum, Tensor(a!) out) -> ()");
  // Separable resize of (B, C, *S) to size; scale multiplies channels (empty: none).
  m.def("resample(Tensor x, int[] size, int rule, int sampling, int border, float[] scale) -> Tensor");
  // Its transpose; the map's outputs may be a window at origin of a grid of shape full (empty: the whole).
  m.def(
      "resample_backward(Tensor grad, int[] size, int rule, int sampling, int border, float[] scale, int[] full, "
      "int[] origin) -> Tensor");
  m.def("resample_out(Tensor x, int[] size, int rule, int sampling, int border, float[] scale, Tensor(a!) out) -> ()");
  // Parallel projections (N, views, S) of images (N, S, S) over half a turn, by turning the image; and the transpose.
  m.def("rotate_project(Tensor image, int views) -> Tensor");
  m.def("rotate_project_adjoint(Tensor proj) -> Tensor");
  // Down to low_size[b] voxels per axis (int64 (B, D) on the CPU) and back up.
  m.def("simulate_resolution(Tensor x, Tensor low_size, int sampling) -> Tensor");
  m.def("simulate_resolution_backward(Tensor grad, Tensor low_size, int sampling) -> Tensor");
  m.def("simulate_resolution_out(Tensor x, Tensor low_size, int sampling, Tensor(a!) out) -> ()");
  // Fused image from labels: gmm_sample, times exp(resized bias_grid), clip ([] for none), min-max, to the power (B,
  // C).
  m.def(
      "synth_image(Tensor labels, Tensor means, Tensor stds, Tensor? lut, Tensor? bias_grid, Tensor? power, "
      "float[] clip, bool normalise, float eps, SymInt seed, SymInt sample_offset, int stream, int[] index_shape, "
      "int[] index_origin, bool validate) -> Tensor");
  m.def(
      "synth_image_out(Tensor labels, Tensor means, Tensor stds, Tensor? lut, Tensor? bias_grid, Tensor? power, "
      "float[] clip, bool normalise, float eps, SymInt seed, SymInt sample_offset, int stream, int[] index_shape, "
      "int[] index_origin, bool validate, Tensor(a!) out) -> ()");
  // Voxels (B, parts, *shape) inside the closed parts of meshes: verts (B, V, 3) in voxels, faces (F, 3), part (F),
  // slices (B) along the last axis instead of volumes; and open columns (B, parts). priority: [], or all parts in
  // order.
  m.def(
      "voxelize_mesh(Tensor verts, Tensor faces, Tensor? part, int n_parts, int[] shape, int[] priority, "
      "Tensor? slices, bool integer) -> (Tensor, Tensor)");
  // Gradient to verts by the surface integral.
  m.def(
      "voxelize_mesh_backward(Tensor grad, Tensor verts, Tensor faces, Tensor? part, int n_parts, int[] shape, "
      "int[] priority, Tensor? slices) -> Tensor");
  m.def(
      "voxelize_mesh_out(Tensor verts, Tensor faces, Tensor? part, int n_parts, int[] shape, int[] priority, "
      "Tensor? slices, Tensor(a!) out) -> Tensor");
  // img at x + disp(x).
  m.def("warp(Tensor img, Tensor disp, int sampling, int border, float fill) -> Tensor");
  // Gradients to img and disp over the whole batch; empty where not wanted. Linear mode only.
  m.def(
      "warp_backward(Tensor grad, Tensor img, Tensor disp, int border, float fill, bool want_img, bool want_disp) -> "
      "(Tensor, Tensor)");
  // The same for integer labels.
  m.def("warp_labels(Tensor labels, Tensor disp, int sampling, int border, int fill) -> Tensor");
  m.def("warp_labels_out(Tensor labels, Tensor disp, int sampling, int border, int fill, Tensor(a!) out) -> ()");
  m.def("warp_out(Tensor img, Tensor disp, int sampling, int border, float fill, Tensor(a!) out) -> ()");
}
