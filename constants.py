"""Locations of data, shards and models, and the defaults and bounds of flags.

Each location can be set by an environment variable with its name after `DEEP_SPEECH_`, as in
`DEEP_SPEECH_BUCKET=gs://my-bucket`, so that nobody has to edit a source file before training.
"""

import os
from typing import Any

# Hides TensorFlow's notes on the processor's instructions, some of which version 2.21 logs as
# errors; true errors come as exceptions. TensorFlow reads this when it is imported, which every
# door does after this module.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# MB that TensorFlow requests from a bucket at a time, for each file that it reads. Its default, 64
# (512 on a TPU VM), takes so long that the 16 streams of speech/input_pipeline, which start
# together, also wait together: the records they read ahead last about as long as 16 MB take.
os.environ.setdefault("GCS_READ_CACHE_BLOCK_SIZE_MB", "16")


def _location(name: str, default: str) -> str:
    """Returns the environment variable DEEP_SPEECH_<name>, or else the default."""
    return os.environ.get(f"DEEP_SPEECH_{name}") or default


# --- Locations ------------------------------------------------------------------------------------

# The Google Cloud Storage bucket of training and evaluation, e.g. gs://my-bucket. Empty: everything
# stays on this machine.
BUCKET = _location("BUCKET", "").rstrip("/")
if BUCKET and not BUCKET.startswith("gs://"):
    BUCKET = f"gs://{BUCKET}"

# Folder of downloads and prepared data, and LibriSpeech's folder inside it.
DATA_DIR = _location("DATA_DIR", "data")
LIBRISPEECH_DIR = f"{DATA_DIR}/LibriSpeech"

# Where LibriSpeech's archives are downloaded from.
LIBRISPEECH_URL = _location("LIBRISPEECH_URL", "https://www.openslr.org/resources/12").rstrip("/")

# Names of the shards of the three sets.
TRAIN_SET, DEV_SET, TEST_SET = "train.tfrecords", "dev.tfrecords", "test.tfrecords"

# The sets that `python prepare_libri.py` without flags prepares: split -> name of its shards.
LIBRISPEECH_SETS = {
    "train-clean-100": TRAIN_SET,
    "dev-clean": DEV_SET,
    "test-clean": TEST_SET,
}

# Shards and model of training.py and eval.py, by default in the bucket if there is one.
SHARDS_DIR = f"{BUCKET}/data" if BUCKET else DATA_DIR
TRAIN_DATA = _location("TRAIN_DATA", f"{SHARDS_DIR}/{TRAIN_SET}.*")
DEV_DATA = _location("DEV_DATA", f"{SHARDS_DIR}/{DEV_SET}.*")
TEST_DATA = _location("TEST_DATA", f"{SHARDS_DIR}/{TEST_SET}.*")
LOCAL_MODEL_DIR = "model"
MODEL_DIR = _location("MODEL_DIR", f"{BUCKET}/model" if BUCKET else LOCAL_MODEL_DIR)

REPORT_DIR = _location("REPORT_DIR", "report")
EXPORT_DIR = _location("EXPORT_DIR", "export")

# --- Front end: audio -> features -----------------------------------------------------------------

SAMPLE_RATE = 16000  # Hz
WINDOW_SECONDS = 0.02
STEP_SECONDS = 0.01
FFT_SIZE = 1024  # samples that the windowed frame is zero-padded to
MEL_FILTERS = 80
CEPSTRAL_COEFFICIENTS = 13
LOWEST_FREQUENCY = 125.0  # Hz
HIGHEST_FREQUENCY = 7600.0  # Hz
PRE_EMPHASIS = 0.97

# Lower bound of energies before the logarithm, in units of a filter's energy at 16-bit scale.
# Rounding to 16 bits alone adds more than this to every filter: it affects only digital silence.
ENERGY_FLOOR = 1e-6

# --- Shards ---------------------------------------------------------------------------------------

INDEX_SUFFIX = ".index.json"  # follows --tfrecords_file in the name of a set's index
PARTITION_SIZE = 20000  # corpus positions per shard
STARTING_POSITION = 0
MAX_SEQUENCE_LENGTH = 1729  # frames; longer utterances are skipped
MAX_LABEL_LENGTH = 338  # characters; longer transcripts are skipped

# Limits for LibriSpeech's dev and test splits. Their word error rate should be that of the whole
# set, whose longest utterance has 35 seconds.
EVALUATION_SEQUENCE_LENGTH = 3600
EVALUATION_LABEL_LENGTH = 600

# --- Networks -------------------------------------------------------------------------------------

NETWORK = "deep_speech_1"
STRIDE_SIZE = 2  # frames between two outputs; preparation checks that there are enough outputs

# Network -> its sizes; it has no others.
#   conv_channels        output channels of each convolution
#   context_size         frames that a convolution's kernel, or the first layer, sees
#   stride_size          frames between two outputs of the first layer; the others' stride is 1
#   dense_unit_size      units of a dense layer
#   recurrent_layers     number of recurrent layers
#   recurrent_unit_size  units of each direction of a recurrent layer
#   layer_norm           whether the outputs of the dense layers are normalised
#   layer_norm_epsilon   what is added to their variance
#   blocks               number of Conformer blocks
#   attention_heads      heads of each block's self-attention
NETWORK_SIZES: dict[str, dict[str, Any]] = {
    "deep_speech_1": {
        "conv_channels": (32, 32, 96),
        "context_size": 11,
        "stride_size": STRIDE_SIZE,
        "recurrent_unit_size": 512,
    },
    "deep_speech_paper": {
        "context_size": 19,
        "stride_size": 2,
        "dense_unit_size": 2048,
        "recurrent_unit_size": 2048,
    },
    "deep_speech_lstm": {
        "context_size": 19,
        "stride_size": 1,
        "dense_unit_size": 2048,
        "recurrent_unit_size": 2048,
        "layer_norm": False,
        "layer_norm_epsilon": 1e-5,
    },
    "conv_gru": {
        "conv_channels": (256,),
        "context_size": 11,
        "stride_size": 2,
        "recurrent_layers": 2,
        "recurrent_unit_size": 256,
    },
    "conv_gru_dilated": {
        "conv_channels": (200, 200),
        "context_size": 11,
        "stride_size": 1,
        "recurrent_layers": 2,
        "recurrent_unit_size": 200,
    },
    "conformer": {
        "conv_channels": (32, 32),
        "context_size": 15,
        "stride_size": 4,
        "dense_unit_size": 192,
        "blocks": 8,
        "attention_heads": 4,
    },
}

RELU_CLIP = 20.0
BATCH_NORM_EPSILON = 1e-3
BATCH_NORM_MOMENTUM = 0.99  # share of a moving average that a step keeps

# The convolutions of deep_speech_1 over frequency.
CONV_FREQUENCY_KERNELS = (41, 21, 21)  # bins of each kernel; further layers have the last number
FREQUENCY_STRIDE = 2

# --- Training -------------------------------------------------------------------------------------

TRAIN_BATCH_SIZE = 32  # over all cores
EVAL_BATCH_SIZE = 32  # over all cores
MAX_EPOCHS = 20.0
LEARNING_RATE = 3e-4
LEARNING_RATE_SCHEDULE = "exponential"
LEARNING_RATE_DECAY_FACTOR = 0.96  # per epoch
CLIP_GRADIENTS = 100.0  # global norm
DROPOUT = 0.05
TPU_NAME = os.environ.get("TPU_NAME", "local")  # local: the TPU of this TPU VM
NUM_TPU_CORES = 8
ITERATIONS_PER_LOOP = 100  # steps of a TPU between two exchanges with its host
SAVE_CHECKPOINTS_STEPS = 500
KEEP_CHECKPOINT_MAX = 5
MAX_BAD_STEPS = 1  # skipped steps whose loss isn't finite; one more ends the training
ES_EPOCHS = 25.0  # epochs without a better loss on the development set before training stops
ES_MIN_DELTA = 0.05  # nats by which a better loss must be lower
PLATEAU_EPOCHS = 10.0  # epochs without a better loss before the learning rate is lowered
PLATEAU_REDUCTION = 0.1  # factor by which the learning rate is then multiplied
BEAM_SAMPLE = 50  # utterances that an evaluation in training also decodes by beam search
SHUFFLE_BUFFER_BYTES = 2 * 2**30  # utterances that one host shuffles at a time
RANDOM_SEED = 1

# --- Decoding -------------------------------------------------------------------------------------

BEAM_WIDTH = 100

# --- Language model -------------------------------------------------------------------------------

# Mozilla DeepSpeech's defaults, where it has any.
LM_DIR = _location("LM_DIR", "lm")
SCORER_FILE = "kenlm.scorer"
# Folder of KenLM's programs, where make kenlm puts them.
KENLM_BINS = _location(
    "KENLM_BINS", os.path.join(os.path.dirname(os.path.abspath(__file__)), ".kenlm", "bin")
)
LM_TOP_K = 500000  # words of the vocabulary
ARPA_ORDER = 5
HIGHEST_ARPA_ORDER = 6  # KenLM is compiled for orders up to this
MAX_ARPA_MEMORY = "85%"
ARPA_PRUNE = "0|0|1"
BINARY_TYPE = "trie"
BINARY_A_BITS = 255
BINARY_Q_BITS = 8
LM_ALPHA = 0.931289039105002
LM_BETA = 1.1834137581510284

# --- Tuning a language model's weights ------------------------------------------------------------

# Mozilla DeepSpeech's defaults, except for LM_PATIENCE, which it doesn't have.
LM_TRIALS = 2400
LM_ALPHA_MAX = 5.0
LM_BETA_MAX = 5.0
LM_PATIENCE = 300  # trials without a better one before the search ends
TUNING_DIR = _location("TUNING_DIR", "tuning")  # of its picture and table

# --- Bounds of flags ------------------------------------------------------------------------------

# Values beyond them are mistakes, and would take more time or memory than there is.
LARGEST_INTEGER = 2**31 - 1
LARGEST_NUMBER = 1e9
LONGEST_SEQUENCE = 10**6  # frames, almost three hours
LONGEST_LABEL = 10**5
MOST_COPIES = 1000  # augmented copies of an utterance
MOST_WORKERS = 1024  # processes
LARGEST_BATCH_SIZE = 2**16
MOST_EPOCHS = 1e6
MOST_CHECKPOINTS = 10_000
LARGEST_BEAM_WIDTH = 10_000  # 2 GB for an utterance of half a minute
