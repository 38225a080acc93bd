"""Estimates a small language model without KenLM, with a package that needs no compiler."""

import subprocess
import sys
from pathlib import Path

from absl import logging

from speech.language_model.kenlm_programs import Estimation
from utils import UserError, lines_of

WORKER = Path(__file__).with_name("kaldingram_worker.py")

# It keeps every n-gram as Python objects: a million words of prose take a minute and 2.3 GB.
MOST_TOKENS = 1_000_000
ORDERS = range(2, 6)


def check(estimation: Estimation) -> None:
    """Warns about the limits of the embedded estimator.

    Raises:
        UserError: it can't estimate the model.
    """
    if estimation.order not in ORDERS:
        raise UserError(
            f"--arpa_order={estimation.order} requires KenLM, without which the maximum is "
            f"{ORDERS[-1]}: compile it with make kenlm, or name its folder with --kenlm_bins."
        )
    logging.warning(
        "KenLM's programs are missing (make kenlm compiles them). The embedded estimator replaces "
        "them with these limits: at most %s tokens of text, Kneser-Ney smoothing with one discount "
        "per order where KenLM interpolates with three (perplexity 3 to 13 %% higher), and no "
        "lm.binary.",
        f"{MOST_TOKENS:,}",
    )


def estimate(text: str, arpa: str, estimation: Estimation, vocabulary: str | None) -> None:
    """Estimates a model and writes its ARPA file, see kenlm_programs.estimate.

    Raises:
        UserError: the estimator fails; with its message.
    """
    prune = ",".join(map(str, estimation.prune))
    files = [text, arpa, str(estimation.order), prune, *([vocabulary] if vocabulary else [])]
    # Isolated (-I): else the script's folder would be the first on the module search path.
    command = [sys.executable, "-I", str(WORKER), *files]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if ended.returncode:
        reason = lines_of(ended.stderr.strip())[-1:] or [f"status {ended.returncode}"]
        raise UserError(
            f"The embedded estimator failed: {reason[0]}. Compile KenLM, which needs less memory, "
            "with make kenlm, or give less text."
        )
