"""Estimating a small language model where there is no KenLM, by a package without a compiler."""

import subprocess
import sys
from pathlib import Path

from absl import logging

from speech.language_model.kenlm_programs import Estimation
from utils import UserError, lines_of

WORKER = Path(__file__).with_name("kaldingram_worker.py")

# It holds every n-gram as Python objects: a million words of prose take a minute and 2.3 GB.
MOST_TOKENS = 1_000_000
ORDERS = range(2, 6)


def check(estimation: Estimation) -> None:
    """Warns of what is lost without KenLM.

    Raises:
        UserError: the model can't be estimated without.
    """
    if estimation.order not in ORDERS:
        raise UserError(
            f"--arpa_order={estimation.order} needs KenLM, without which {ORDERS[-1]} is the "
            "highest: compile it with make kenlm, or name its folder with --kenlm_bins."
        )
    logging.warning(
        "KenLM's programs are not there (make kenlm compiles them), and an embedded estimator "
        "stands in for them: no more than %s tokens of text, Kneser-Ney smoothing with one "
        "discount an order where KenLM has three and interpolates (a perplexity 3 to 13 %% "
        "higher), and no lm.binary.",
        f"{MOST_TOKENS:,}",
    )


def estimate(text: str, arpa: str, estimation: Estimation, vocabulary: str | None) -> None:
    """Estimates a model and writes its ARPA file; as kenlm_programs.estimate.

    Raises:
        UserError: the estimator fails; with what it said.
    """
    prune = ",".join(map(str, estimation.prune))
    files = [text, arpa, str(estimation.order), prune, *([vocabulary] if vocabulary else [])]
    ended = subprocess.run(
        [sys.executable, str(WORKER), *files], capture_output=True, text=True, errors="replace"
    )
    if ended.returncode:
        said = lines_of(ended.stderr.strip())[-1:] or [f"status {ended.returncode}"]
        raise UserError(
            f"The embedded estimator failed: {said[0]}. Compile KenLM, which needs less memory: "
            "make kenlm; or give less text."
        )
