"""One experiment: all sections together."""

from dataclasses import dataclass, field

from codegym_jax.config.learning import (
    AlgorithmConfig,
    CurriculumConfig,
    LoraConfig,
    SftConfig,
    TrainConfig,
)
from codegym_jax.config.sections import (
    DataConfig,
    EvalConfig,
    MeshConfig,
    PolicyConfig,
    RolloutConfig,
    SamplingMeshConfig,
    SandboxConfig,
    SynthesisConfig,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """One experiment."""

    seed: int = 0
    style: str = "compact"  # the renderer
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    data: DataConfig = field(default_factory=DataConfig)
    sft: SftConfig = field(default_factory=SftConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    sampling_mesh: SamplingMeshConfig = field(default_factory=SamplingMeshConfig)
