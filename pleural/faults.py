"""What its surroundings can do to a training, each in a sentence with the remedy."""

from __future__ import annotations

import errno
import re

from pleural.dataset import Patches
from pleural.errors import InputError, first_line, one_line, root_cause, said
from pleural.run_folder import RunFolder

OUT_OF_MEMORY = "out of memory|can(no|')t allocate memory|not enough memory"
REMEDIES = {  # of what an operating system says
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.ENOENT, errno.EIO), "make room there, or bring it back"
    ),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "let it be written there"),
    errno.EMFILE: "lower dataset.num_workers, or raise the limit of open files (ulimit -n)",
}
TOO_MANY_FILES = "too many open files|items of ancdata"  # torch's words, of its loader's workers
WORKER_DIED = "DataLoader worker .*(killed|exited)"


def what_happened(error: Exception, run: RunFolder, dataset: Patches) -> InputError | None:
    """What its surroundings did to a training, in a sentence; ``None``: it is our own fault."""
    cause = root_cause(error)
    if isinstance(cause, InputError):
        return InputError(said(cause))
    if _is_out_of_memory(error):
        return InputError(
            f"{dataset.patches_per_batch} patches of {[*dataset.patch_size]}, or a validation "
            "volume, do not fit into memory "
            f"({first_line(error)}): lower dataset.crops_per_case, "
            "dataset.cases_per_batch, patch_size or inference.slab (inference.sw_batch_size with "
            "inference=sliding_window)"
        )
    kept = f"what {run.path} holds is whole, and resume={run.path} goes on from there"
    if re.search(TOO_MANY_FILES, str(error), re.IGNORECASE):
        return InputError(f"{first_line(error)}: {REMEDIES[errno.EMFILE]}; {kept}")
    if isinstance(cause, OSError):
        return _with_remedy(cause, kept)
    if re.search(WORKER_DIED, str(error)):
        return InputError(
            f"a process that cuts patches died ({first_line(error)}), most likely for want of "
            f"memory: lower dataset.num_workers, or use dataset.cache=disk; {kept}"
        )
    return None


def what_happened_after(error: Exception, run: RunFolder) -> InputError | None:
    """The same of the judging that follows a training; ``None``: it is our own fault."""
    kept = (
        f"the training in {run.path} is over and whole: the same command judges it anew, and "
        f"task=predict task.runs={run.path} predicts with it as it is"
    )
    if _is_out_of_memory(error):
        return InputError(
            f"a validation scan does not fit into memory ({first_line(error)}): close what else "
            f"takes memory, or take another machine; {kept}"
        )
    cause = root_cause(error)
    return _with_remedy(cause, kept) if isinstance(cause, OSError) else None


def _with_remedy(cause: OSError, kept: str) -> InputError:
    remedies = [REMEDIES[cause.errno]] if cause.errno in REMEDIES else []
    return InputError(f"{one_line(cause)}: {'; '.join([*remedies, kept])}")


def _is_out_of_memory(error: Exception) -> bool:
    said_so = re.search(OUT_OF_MEMORY, str(error), re.IGNORECASE)
    return isinstance(root_cause(error), MemoryError) or bool(said_so)
