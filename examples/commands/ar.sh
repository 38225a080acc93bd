#!/bin/sh
# Commands to a mirror in Arabic, from Mozilla DeepSpeech's CSV to a word error rate on sentences that
# nobody said in training, and to what it hears in one, in a few minutes.
#
#   sh examples/commands/ar.sh [FOLDER]
#
# In the project's folder, in an environment that has it (README.md); everything is made in FOLDER.
# More flags for its two long steps can be given in the variables SPEAKING and TRAINING.
set -e
there=${1:-demo/commands-ar}
DEEP_SPEECH_REPORT_DIR="$there/report"
export DEEP_SPEECH_REPORT_DIR

# 1. The recordings. Harakat, the signs of short vowels, tell the voices how to say the words.
python examples/spoken_commands.py --sentences=examples/commands/ar.txt --language=ar \
    --corpus_dir="$there/corpus" --train_utterances=2000 --dev_utterances=100 --test_utterances=200 $SPEAKING

# 2. The three sets. Nobody writes harakat: they go from the transcripts, and so does punctuation.
prepare() {
    python prepare_csv.py --train_files="$there/corpus/train.csv" --dev_files="$there/corpus/dev.csv" \
        --test_files="$there/corpus/test.csv" --language=ar --strip_diacritics \
        --max_sequence_length=800 --max_label_length=100 "$@"
}
prepare --make_alphabet --alphabet="$there/alphabet.txt"
prepare --alphabet="$there/alphabet.txt" --check
prepare --alphabet="$there/alphabet.txt" --tfrecords_dir="$there/shards"

# 3. A language model of what is said in training. (--exclude_txt of the test set would leave out most
#    of it: sentences of so few words have long runs of them in common.)
python build_lm.py --input_txt="$there/corpus/train.csv" --language=ar --strip_diacritics \
    --alphabet="$there/alphabet.txt" --discount_fallback --output_dir="$there/lm"

# 4. Training and test.
python training.py --train_data="$there/shards/train.tfrecords.*" --dev_data="$there/shards/dev.tfrecords.*" \
    --model_dir="$there/model" --network=conv_gru --conv_channels=128 --recurrent_unit_size=96 --stride_size=3 \
    --train_batch_size=16 --max_epochs=8 --eval_steps=125 --early_stop --es_epochs=2 \
    --learning_rate=2e-3 --learning_rate_decay_factor=0.7 --clip_gradients=50 $TRAINING
python eval.py --model_dir="$there/model" --test_data="$there/shards/test.tfrecords.*" \
    --scorer="$there/lm/kenlm.scorer" --report_dir="$there/report" --audio="$there/corpus"

# 5. The model as a file for small machines, and what it hears in one of the test's recordings.
python export.py --model_dir="$there/model" --export_dir="$there/export" --formats=tflite
python transcribe.py --model="$there/export/model.tflite" --scorer="$there/lm/kenlm.scorer" \
    --audio="$there/corpus/wav/test-0001.wav"
