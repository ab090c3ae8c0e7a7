"""TRL's GRPO trainer with transformers' `generate`, as its `train` runs it.

Tool episodes come in by `rollout_func`, since random weights write no tool call that its own loop could
parse. Like that loop, it asks the trainer for one message of every episode at a time, on all its ids.
"""

import queue
import tempfile
import threading
from typing import Any

import datasets
import numpy as np
import tokenizers
import torch
import transformers
import trl

from benchmarks.engines import workload
from benchmarks.engines.hf import Loaded
from benchmarks.engines.worker import Job, serve
from benchmarks.engines.workload import CLIP, RlStep

_STEPS = 1_000_000


class _RlStep(Loaded):
    """`train` in a thread of its own: a callback holds it before each step until a round begins.

    `update` is what follows the last message: scoring, forward, backward and optimizer.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job, torch.float32)
        assert isinstance(job.workload, RlStep)
        self.work = job.workload
        self.played: list[list[int]] = []
        self.rewards: list[float] = []
        self.prefilled, self.sampled_s = 0, 0.0
        self.begin: queue.Queue[int] = queue.Queue()
        self.done: queue.Queue[BaseException | None] = queue.Queue()
        self.number = 0
        self.folder = tempfile.TemporaryDirectory()
        self.trainer = self._trainer()
        threading.Thread(target=self._train, daemon=True).start()

    def versions(self) -> dict[str, str]:
        """As there."""
        return {"trl": trl.__version__, **super().versions()}

    def round(self, number: int) -> dict[str, Any]:
        gains = self._gains()
        start_s = self.clock_s()
        self.begin.put(number)
        failure = self.done.get()
        if failure is not None:
            raise failure
        end_s = self.clock_s()
        return {
            "total": end_s - start_s,
            "rollout": self.sampled_s - start_s,
            "update": end_s - self.sampled_s,
            "prefilled": self.prefilled,
            "episodes": self.played,
            "rewards": self.rewards,
            "moved": bool((self._gains() != gains).any()),
        }

    def _trainer(self) -> Any:
        work = self.work
        settings = trl.GRPOConfig(
            output_dir=self.folder.name,
            use_cpu=self.job.device == "cpu",
            bf16=self.job.dtype == "bfloat16",
            max_steps=_STEPS,
            per_device_train_batch_size=work.tasks_per_batch * work.attempts,
            gradient_accumulation_steps=work.tasks // work.tasks_per_batch,
            num_generations=work.attempts,
            max_completion_length=work.length - work.prompt_tokens,
            temperature=1.0,
            beta=0.0,
            epsilon=CLIP,
            loss_type="dapo",  # the mean over the policy's tokens of the step
            learning_rate=workload.LEARNING_RATE,
            lr_scheduler_type="constant",
            weight_decay=workload.WEIGHT_DECAY,
            adam_beta1=workload.ADAM_B1,
            adam_beta2=workload.ADAM_B2,
            max_grad_norm=workload.MAX_GRAD_NORM,
            optim="adamw_torch_fused",
            gradient_checkpointing=False,  # as the others; it is on by default, and costs a forward pass
            shuffle_dataset=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = trl.GRPOTrainer(
            model=self.model,
            reward_funcs=self._reward,
            args=settings,
            train_dataset=datasets.Dataset.from_dict({"prompt": [""] * work.tasks}),
            processing_class=_numbers(self.vocabulary),
            rollout_func=self._play,
            callbacks=[_Held(self)],
        )
        trainer.eos_token_ids = []  # messages end by their budget alone
        trainer.generation_config.eos_token_id = None
        trainer.generation_config.max_new_tokens = work.message_tokens  # not all that an episode may hold
        return trainer

    def _play(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        """The episodes of this round, whatever the data set says."""
        work, task_of = self.work, self.work.task_of_episodes(self.number)
        assert len(prompts) == work.episodes
        starts = [work.prompt(task, self.vocabulary) for task in task_of]
        ids = [list(start) for start in starts]
        own: list[list[int]] = [[] for _ in task_of]
        self.played, self.prefilled = [[] for _ in task_of], 0
        for turn in range(work.turns):
            self.prefilled += sum(map(len, ids))
            messages, _ = trainer._generate_single_turn(ids, None, {}, 1)
            last = turn + 1 == work.turns
            for row, message in enumerate(messages):
                result = [] if last else work.result(task_of[row], turn, self.vocabulary)
                self.played[row] += message
                ids[row] += message + result
                own[row] += [1] * len(message) + [0] * len(result)
        self.sampled_s = self.clock_s()
        return {
            "prompt_ids": starts,
            "completion_ids": [row[len(start) :] for row, start in zip(ids, starts, strict=True)],
            "logprobs": None,
            "env_mask": own,
        }

    def _reward(self, prompts: list[str], **_: Any) -> list[float]:
        self.rewards = [self.work.reward(message, self.vocabulary) for message in self.played]
        return self.rewards

    def _train(self) -> None:
        try:
            self.trainer.train()
            raise RuntimeError("the trainer ended by itself")
        except BaseException as failure:  # the thread's boundary: the round that waits raises it
            self.done.put(failure)

    def _gains(self) -> np.ndarray:
        """Parameters that only a gradient moves: no decay does."""
        return self.model.model.norm.weight.detach().cpu().numpy().copy()


class _Held(transformers.TrainerCallback):
    """Holds the trainer between steps."""

    def __init__(self, engine: _RlStep) -> None:
        self.engine = engine

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Waits for a round."""
        self.engine.number = self.engine.begin.get()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """The round is over."""
        self.engine.done.put(None)


def _numbers(vocabulary: int) -> Any:
    """A tokenizer whose text is the ids themselves, in decimal."""
    words = tokenizers.models.WordLevel({str(token): token for token in range(vocabulary)}, unk_token="0")
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="0", bos_token="1", eos_token="2", padding_side="left"
    )


if __name__ == "__main__":
    serve({"rl_step": _RlStep})
