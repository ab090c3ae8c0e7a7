"""PyTorch with Hugging Face transformers, as their documentation says to use them."""

import pathlib
from time import perf_counter
from typing import Any

import torch
import transformers

from benchmarks.engines import workload
from benchmarks.engines.worker import Job, serve
from benchmarks.engines.workload import Decode, MultiTurn, TrainStep


class Loaded:
    """The model on its device."""

    def __init__(self, job: Job, dtype: torch.dtype | None = None) -> None:
        torch.set_num_threads(job.threads)
        transformers.logging.set_verbosity_error()
        self.job = job
        self.device = torch.device("cuda" if job.device == "gpu" else "cpu")
        self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            pathlib.Path(job.checkpoint), dtype=dtype or getattr(torch, job.dtype)
        ).to(self.device)
        self.vocabulary = self.model.config.vocab_size
        generation = self.model.generation_config
        generation.eos_token_id, generation.pad_token_id = None, 0  # messages end by their budget alone

    def versions(self) -> dict[str, str]:
        """As `worker.Engine` says."""
        gpu = self.device.type == "cuda"
        return {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "device": torch.cuda.get_device_name() if gpu else "cpu",
        }

    def clock_s(self) -> float:
        """The time, once the device has done what it was asked."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return perf_counter()

    def ids(self, rows: Any) -> torch.Tensor:
        """Token ids on the device."""
        return torch.tensor(rows, dtype=torch.long, device=self.device)


class _Decode(Loaded):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        assert isinstance(job.workload, Decode)
        self.work = job.workload
        self.model.eval()
        self.prompts = self.ids(self.work.prompts(self.vocabulary))
        self.settings = {"cache_implementation": "static"} if job.variant == "hf_static" else {}

    def round(self, number: int) -> dict[str, Any]:
        start_s = self.clock_s()
        self._generate(1)
        prefill_s = self.clock_s() - start_s
        ids = self._generate(self.work.new_tokens)
        return {"prefill": prefill_s, "total": self.clock_s() - start_s - prefill_s, "ids": ids}

    def _generate(self, tokens: int) -> list[list[int]]:
        with torch.inference_mode():
            out = self.model.generate(
                self.prompts,
                attention_mask=torch.ones_like(self.prompts),
                do_sample=False,
                max_new_tokens=tokens,
                **self.settings,
            )
        return out[:, self.prompts.shape[1] :].tolist()


class _MultiTurn(Loaded):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        assert isinstance(job.workload, MultiTurn)
        self.work = job.workload
        self.model.eval()

    def round(self, number: int) -> dict[str, Any]:
        work, rows = self.work, range(self.work.episodes)
        task_of = work.task_of_episodes(number)
        torch.manual_seed(number % 2**31)
        episodes: list[list[int]] = [[] for _ in rows]
        reuse = self.job.variant == "hf_reuse"
        start_s = self.clock_s()
        cache = transformers.DynamicCache(config=self.model.config) if reuse else None
        ids = self.ids([work.prompt(task, self.vocabulary) for task in task_of])
        prefilled = 0
        for turn in range(work.turns):
            length = ids.shape[1]
            prefilled += len(rows) * (length - (cache.get_seq_length() if cache is not None else 0))
            with torch.inference_mode():
                ids = self.model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    past_key_values=cache,
                    do_sample=True,
                    temperature=1.0,
                    top_k=0,
                    top_p=1.0,
                    max_new_tokens=work.message_tokens,
                )
            for row, message in enumerate(ids[:, length:].tolist()):
                episodes[row] += message
            if turn + 1 < work.turns:
                results = [work.result(task, turn, self.vocabulary) for task in task_of]
                ids = torch.cat([ids, self.ids(results)], dim=1)
        return {"total": self.clock_s() - start_s, "prefilled": prefilled, "episodes": episodes}


class _TrainStep(Loaded):
    """Parameters stay float32; in bfloat16 it computes under autocast."""

    def __init__(self, job: Job) -> None:
        super().__init__(job, torch.float32)
        assert isinstance(job.workload, TrainStep)
        self.work = job.workload
        self.model.train()
        decays = [p for p in self.model.parameters() if p.ndim >= 2]
        others = [p for p in self.model.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decays, "weight_decay": workload.WEIGHT_DECAY},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=workload.LEARNING_RATE,
            betas=(workload.ADAM_B1, workload.ADAM_B2),
            fused=True,
        )

    def round(self, number: int) -> dict[str, Any]:
        ids = self.ids(self.work.batch(self.vocabulary, number))
        start_s = self.clock_s()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.job.dtype == "bfloat16"):
            loss = self.model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), workload.MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"total": self.clock_s() - start_s, "loss": float(loss.detach())}


if __name__ == "__main__":
    serve({"decode": _Decode, "multi_turn": _MultiTurn, "train_step": _TrainStep})
