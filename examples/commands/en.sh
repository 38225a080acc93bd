#!/bin/sh
# Trains a recogniser of four sentences in a minute or two, evaluates it and transcribes a recording.
#
#   sh examples/commands/en.sh [FOLDER]
#
# Run it in the project's folder and environment (README.md); it writes everything to FOLDER.
# The variables SPEAKING and TRAINING may contain more flags for the two long steps.
set -e
there=${1:-demo/commands-en}
DEEP_SPEECH_REPORT_DIR="$there/report"
export DEEP_SPEECH_REPORT_DIR

# 1. 36 voices speak the sentences: train.csv, dev.csv and test.csv, as Mozilla DeepSpeech reads
#    them. 24 voices train, six others are in each of the other sets.
python examples/spoken_commands.py --sentences=examples/commands/input.txt --corpus_dir="$there/corpus" $SPEAKING

prepare() {
    python prepare_csv.py --train_files="$there/corpus/train.csv" --dev_files="$there/corpus/dev.csv" \
        --test_files="$there/corpus/test.csv" --language=en \
        --max_sequence_length=450 --max_label_length=80 "$@"
}

# 2. The alphabet, and a check of the corpus; report/check.html shows the worst findings. Sets that
#    share sentences cause only a warning; an error would end this script.
prepare --make_alphabet --alphabet="$there/alphabet.txt"
prepare --alphabet="$there/alphabet.txt" --check

# 3. The shards.
prepare --alphabet="$there/alphabet.txt" --tfrecords_dir="$there/shards"

# 4. A language model of the training sentences.
python build_lm.py --input_txt="$there/corpus/train.csv" --language=en --alphabet="$there/alphabet.txt" \
    --arpa_order=3 --discount_fallback --output_dir="$there/lm"

# 5. Training with early stopping on the development set.
python training.py --train_data="$there/shards/train.tfrecords.*" --dev_data="$there/shards/dev.tfrecords.*" \
    --model_dir="$there/model" --network=conv_gru --conv_channels=128 --recurrent_unit_size=96 --stride_size=3 \
    --train_batch_size=16 --max_epochs=20 --eval_steps=25 --early_stop --es_epochs=3 \
    --learning_rate=2e-3 --learning_rate_decay_factor=0.8 --clip_gradients=50 $TRAINING

# 6. Evaluation on unknown voices.
python eval.py --model_dir="$there/model" --test_data="$there/shards/test.tfrecords.*" \
    --scorer="$there/lm/kenlm.scorer" --report_dir="$there/report" --audio="$there/corpus"

# 7. The model as a file for small machines, and its transcript of a test recording.
python export.py --model_dir="$there/model" --export_dir="$there/export" --formats=tflite
python transcribe.py --model="$there/export/model.tflite" --scorer="$there/lm/kenlm.scorer" \
    --audio="$there/corpus/wav/test-0001.wav"
