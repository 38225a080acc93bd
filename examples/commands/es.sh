#!/bin/sh
# Trains a recogniser of Spanish commands to a mirror from a folder of numbered recordings in a few minutes,
# evaluates it on unknown sentences and transcribes a recording.
#
#   sh examples/commands/es.sh [FOLDER]
#
# Run it in the project's folder and environment (README.md); it writes everything to FOLDER.
# The variables SPEAKING and TRAINING may contain more flags for the two long steps.
set -e
there=${1:-demo/commands-es}
DEEP_SPEECH_REPORT_DIR="$there/report"
export DEEP_SPEECH_REPORT_DIR

# 1. The recordings: SPEAKER_TAKE_ID.wav, and commands.csv with the sentence of each id. The
#    sentences in unseen/ are not in known/.
python examples/spoken_commands.py --sentences=examples/commands/es.txt --language=es --layout=commands \
    --corpus_dir="$there/corpus" --train_utterances=2000 --dev_utterances=100 --test_utterances=200 $SPEAKING

# 2. Training and development set, which share no speaker, and the test set, with the alphabet of
#    Spanish: in lower case without punctuation, with ñ and accents.
prepare() {
    python prepare_csv.py --language=es --tfrecords_dir="$there/shards" --max_sequence_length=750 \
        --max_label_length=100 "$@"
}
prepare --files_path="$there/corpus/known" --split=90/10/0 --check
DEEP_SPEECH_REPORT_DIR="$there/report/unseen" prepare --test_files="$there/corpus/unseen" --check
prepare --files_path="$there/corpus/known" --split=90/10/0
prepare --test_files="$there/corpus/unseen"

# 3. A language model of the commands in known/.
python build_lm.py --input_txt="$there/corpus/known/commands.csv" --language=es --discount_fallback \
    --output_dir="$there/lm"

# 4. Training and evaluation.
python training.py --train_data="$there/shards/train.tfrecords.*" --dev_data="$there/shards/dev.tfrecords.*" \
    --model_dir="$there/model" --network=conv_gru --conv_channels=128 --recurrent_unit_size=96 --stride_size=3 \
    --train_batch_size=16 --max_epochs=8 --eval_steps=125 --early_stop --es_epochs=2 \
    --learning_rate=2e-3 --learning_rate_decay_factor=0.7 --clip_gradients=50 $TRAINING
python eval.py --model_dir="$there/model" --test_data="$there/shards/test.tfrecords.*" \
    --scorer="$there/lm/kenlm.scorer" --report_dir="$there/report" --audio="$there/corpus/unseen"

# 5. The model as a file for small machines, and its transcript of a test recording.
python export.py --model_dir="$there/model" --export_dir="$there/export" --formats=tflite
python transcribe.py --model="$there/export/model.tflite" --scorer="$there/lm/kenlm.scorer" \
    --audio="$(ls "$there"/corpus/unseen/*.wav | head -n 1)"
