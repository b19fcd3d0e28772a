"""How a training's processes are started: here, by torchrun, accelerate, DeepSpeed's launcher, or Slurm."""
