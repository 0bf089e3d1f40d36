"""What the sites share: the shape and material networks, on top of a fixed shape model and a fixed scanner."""

from __future__ import annotations

from torch import Tensor, nn

from medsynth_ext.methods.fedsim.ct_simulator import CTSimulator
from medsynth_ext.methods.fedsim.latent_networks import MaterialGenerator, ShapeGenerator
from medsynth_ext.methods.fedsim.shape_gradient import heart_mask
from medsynth_ext.methods.fedsim.shape_model import ShapeModel

__all__ = ["HeartModel"]


class HeartModel(nn.Module):
    """Latent to label and coarse CT. Its state is that of the two networks: all that ever leaves a site.

    Args:
        shape_model: surfaces of the heart.
        simulator: the scanner, for maps of ``material``'s size.
        size: voxels per side of the label.
        latent: length of a latent.
        shape: network to the shape parameters; the paper's by default.
        material: network to the material map; the paper's by default.
        shape_gradient: ``surface`` or ``fd``; see ``heart_mask``.
        motion: step of the finite differences, in voxels.

    Raises:
        ValueError: when scanner and shape model have different fields of view.
    """

    def __init__(
        self,
        shape_model: ShapeModel,
        simulator: CTSimulator,
        *,
        size: int = 128,
        latent: int = 32,
        shape: ShapeGenerator | None = None,
        material: MaterialGenerator | None = None,
        shape_gradient: str = "surface",
        motion: float = 0.75,
    ) -> None:
        super().__init__()
        if abs(simulator.fov_mm - shape_model.fov_mm) > 1e-3:
            raise ValueError(
                f"the simulator has a field of view of {simulator.fov_mm:g} mm, the shape model one of "
                f"{shape_model.fov_mm:g} mm; they must be equal"
            )
        self.shape_model = shape_model
        self.simulator = simulator
        self.size, self.latent = size, latent
        self.shape = ShapeGenerator(latent, shape_model.parameters_count) if shape is None else shape
        self.material = MaterialGenerator(latent, simulator.size) if material is None else material
        self.shape_gradient = shape_gradient
        self.motion = motion

    def heart(self, z: Tensor, *, motion_factor: float = 1.0) -> Tensor:  # (B, latent) -> (B, 1, N, N, N)
        """The voxelised heart, in {0, 1}, with a gradient."""
        return heart_mask(
            self.shape_model,
            self.shape(z),
            self.size,
            gradient=self.shape_gradient,
            motion=self.motion * motion_factor,
        )

    def coarse_ct(self, z: Tensor) -> Tensor:  # (B, latent) -> (B, 1, c, c, c)
        """The simulated CT, ``HU / 1000``."""
        return self.simulator(self.material(z))
