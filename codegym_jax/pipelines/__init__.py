"""The stages of a run, each one visible loop: synthesis, SFT, RL, evaluation, reverification."""
