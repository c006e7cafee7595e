"""The tasks inside other trainers, by name; importing this package imports none of them.

sb3: Stable-Baselines3 and sb3-contrib. torchrl: TorchRL. pufferlib: PufferLib. rllib: Ray RLlib.
Gymnasium needs no module: `import fastmaze` registers its env ids.
"""
