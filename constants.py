"""Where data, shards and models live, and every default number, once.

The doors' flags take their defaults from here. A location can be set for good with an environment
variable of the same name behind `DEEP_SPEECH_` (`DEEP_SPEECH_BUCKET=gs://my-bucket`), so that
nobody has to edit a source file before training.
"""

import os
from typing import Any

# TensorFlow reads this when it is imported, which every door does after this module: its notes on
# the processor's instructions are no news to anyone.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# MB that TensorFlow asks of a bucket at a time, for each file that it reads. Its own 64 (512 on a
# TPU VM) take so long to come that the 16 streams of speech/input_pipeline, which started together,
# then wait together: their records are read ahead for about the time that 16 MB take.
os.environ.setdefault("GCS_READ_CACHE_BLOCK_SIZE_MB", "16")


def _location(name: str, default: str) -> str:
    """The location `name`, from the environment variable DEEP_SPEECH_<name> if that is set."""
    return os.environ.get(f"DEEP_SPEECH_{name}") or default


# --- Locations ------------------------------------------------------------------------------------

# The Google Cloud Storage bucket that training and evaluation use, e.g. gs://my-bucket.
# Empty: everything stays on this machine.
BUCKET = _location("BUCKET", "").rstrip("/")
if BUCKET and not BUCKET.startswith("gs://"):
    BUCKET = f"gs://{BUCKET}"

# Folder of everything downloaded and prepared, and LibriSpeech's folder inside it.
DATA_DIR = _location("DATA_DIR", "data")
LIBRISPEECH_DIR = f"{DATA_DIR}/LibriSpeech"

# Where LibriSpeech's archives come from.
LIBRISPEECH_URL = _location("LIBRISPEECH_URL", "https://www.openslr.org/resources/12").rstrip("/")

# Names of the three sets' shards.
TRAIN_SET, DEV_SET, TEST_SET = "train.tfrecords", "dev.tfrecords", "test.tfrecords"

# The sets of a bare `python prepare_libri.py`: LibriSpeech split -> name of its shards.
LIBRISPEECH_SETS = {
    "train-clean-100": TRAIN_SET,
    "dev-clean": DEV_SET,
    "test-clean": TEST_SET,
}

# Where training.py and eval.py look for shards: in the bucket if there is one.
SHARDS_DIR = f"{BUCKET}/data" if BUCKET else DATA_DIR
TRAIN_DATA = _location("TRAIN_DATA", f"{SHARDS_DIR}/{TRAIN_SET}.*")
DEV_DATA = _location("DEV_DATA", f"{SHARDS_DIR}/{DEV_SET}.*")
TEST_DATA = _location("TEST_DATA", f"{SHARDS_DIR}/{TEST_SET}.*")
MODEL_DIR = _location("MODEL_DIR", f"{BUCKET}/model" if BUCKET else "model")

REPORT_DIR = _location("REPORT_DIR", "report")
EXPORT_DIR = _location("EXPORT_DIR", "export")

# --- Bounds of flags ------------------------------------------------------------------------------

# What lies beyond them is a slip, and would need more time or memory than there is.
LARGEST_INTEGER = 2**31 - 1
LARGEST_NUMBER = 1e9
LONGEST_SEQUENCE = 10**6  # frames, almost three hours
LONGEST_LABEL = 10**5
MOST_COPIES = 1000  # of an utterance, augmented
MOST_WORKERS = 1024  # processes
LARGEST_BATCH_SIZE = 2**16
MOST_EPOCHS = 1e6
MOST_CHECKPOINTS = 10_000
LARGEST_BEAM_WIDTH = 10_000  # 2 GB for an utterance of half a minute

# --- Front end: audio -> features -----------------------------------------------------------------

SAMPLE_RATE = 16000  # Hz
WINDOW_SECONDS = 0.02
STEP_SECONDS = 0.01
FFT_SIZE = 1024  # samples, the windowed frame is zero-padded to this
MEL_FILTERS = 80
CEPSTRAL_COEFFICIENTS = 13
LOWEST_FREQUENCY = 125.0  # Hz
HIGHEST_FREQUENCY = 7600.0  # Hz
PRE_EMPHASIS = 0.97

# Energies are floored here before the logarithm, in units of a filter's energy at 16-bit scale.
# Rounding to 16 bits puts more than this into every filter: only digital silence is touched.
ENERGY_FLOOR = 1e-6

# --- Shards ---------------------------------------------------------------------------------------

INDEX_SUFFIX = ".index.json"  # of a set's index, after its --tfrecords_file
PARTITION_SIZE = 20000  # corpus positions per shard
STARTING_POSITION = 0
MAX_SEQUENCE_LENGTH = 1729  # frames; longer utterances are skipped
MAX_LABEL_LENGTH = 338  # characters; longer transcripts are skipped

# LibriSpeech's dev and test splits take longer ones: a word error rate is to be that of the whole
# set, and its longest utterance has 35 seconds.
EVALUATION_SEQUENCE_LENGTH = 3600
EVALUATION_LABEL_LENGTH = 600

# --- Networks -------------------------------------------------------------------------------------

NETWORK = "deep_speech_1"
STRIDE_SIZE = 2  # frames between two outputs; preparation looks whether they are enough

# The sizes of each network by name: it has those that stand here, and no others.
#   conv_channels        output channels, one number a convolution
#   context_size         frames that a convolution's kernel, or the first layer, sees
#   stride_size          frames between two outputs of the first layer; the others move by one
#   dense_unit_size      units of a dense layer
#   recurrent_layers     how many
#   recurrent_unit_size  units of each direction of a recurrent layer
#   layer_norm           whether the outputs of the dense layers are normalised
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
}

RELU_CLIP = 20.0
LAYER_NORM_EPSILON = 1e-5
BATCH_NORM_EPSILON = 1e-3
BATCH_NORM_MOMENTUM = 0.99  # share of a moving average that a step leaves

# Of the convolutions of deep_speech_1, over frequency:
CONV_FREQUENCY_KERNELS = (41, 21, 21)  # bins a kernel sees; the last one serves any further layers
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
TPU_NAME = os.environ.get("TPU_NAME", "local")  # local: of the TPU VM this runs on
NUM_TPU_CORES = 8
ITERATIONS_PER_LOOP = 100  # steps a TPU takes without talking to its host
SAVE_CHECKPOINTS_STEPS = 500
KEEP_CHECKPOINT_MAX = 5
MAX_BAD_STEPS = 1  # with a loss that isn't finite; they are skipped, one more ends the training
ES_EPOCHS = 25.0  # without a better loss on the development data before training stops
ES_MIN_DELTA = 0.05  # nats by which a loss must be lower to be better
PLATEAU_EPOCHS = 10.0  # without a better loss before the learning rate is lowered
PLATEAU_REDUCTION = 0.1  # factor on the learning rate then
BEAM_SAMPLE = 50  # utterances of the development set that are also decoded by beam search
SHUFFLE_BUFFER_BYTES = 2 * 2**30  # of the utterances that one host shuffles at a time
RANDOM_SEED = 1

# --- Decoding -------------------------------------------------------------------------------------

BEAM_WIDTH = 100

# --- Language model -------------------------------------------------------------------------------

# DeepSpeech's numbers where it has them.
LM_DIR = _location("LM_DIR", "lm")
SCORER_FILE = "kenlm.scorer"
KENLM_BINS = _location(
    "KENLM_BINS", os.path.join(os.path.dirname(os.path.abspath(__file__)), ".kenlm", "bin")
)  # where make kenlm puts its programs
LM_TOP_K = 500000
ARPA_ORDER = 5
HIGHEST_ARPA_ORDER = 6  # that KenLM is compiled for
MAX_ARPA_MEMORY = "85%"
ARPA_PRUNE = "0|0|1"
BINARY_TYPE = "trie"
BINARY_A_BITS = 255
BINARY_Q_BITS = 8
LM_ALPHA = 0.931289039105002
LM_BETA = 1.1834137581510284

# --- Tuning a language model's weights ------------------------------------------------------------

# DeepSpeech's numbers, but for the patience, which it has none of.
LM_TRIALS = 2400
LM_ALPHA_MAX = 5.0
LM_BETA_MAX = 5.0
LM_PATIENCE = 300  # trials without a better one after which the search ends
TUNING_DIR = _location("TUNING_DIR", "tuning")  # where its picture and table go
