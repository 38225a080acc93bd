"""Flags of Mozilla DeepSpeech and Coqui STT that mean something else here or are of other doors.

Where name, meaning and unit are the same but for the word, the flag is an alias of ours.
"""

# Flag -> what to give instead. A door that has the flag, itself or as an alias, takes it.
INSTEAD = {
    "alphabet_config_path": "prepare_csv.py --alphabet",
    "audio_sample_rate": "prepare_csv.py --sample_rate",
    "automatic_mixed_precision": "--bfloat16",
    "bytes_output_mode": "prepare_csv.py --alphabet=utf-8",
    "checkpoint_dir": "--model_dir",
    "checkpoint_path": "--model_dir",
    "checkpoint_secs": "--save_checkpoints_steps, which counts steps",
    "csv": "eval.py --test_files",
    "dev_batch_size": "training.py --eval_batch_size",
    "dev_files": "prepare_csv.py --dev_files, then --dev_data with the shards",
    "drop_source_layers": "training.py --drop_layers",
    "dropout_rate": "training.py --dropout",
    "dump": "eval.py --report_dir, whose utterances.csv has every transcript",
    "epochs": "--max_epochs, which counts the epochs of all runs",
    "export_dir": "python export.py --export_dir",
    "export_tflite": "python export.py --formats=tflite_int8",
    "feature_win_len": "prepare_csv.py --winlen, in seconds",
    "feature_win_step": "prepare_csv.py --winstep, in seconds",
    "limit_dev": "prepare_csv.py --limit_dev",
    "limit_test": "prepare_csv.py --limit_test, or eval.py --limit_test with --test_files",
    "limit_train": "prepare_csv.py --limit_train",
    "load_checkpoint_dir": "--init_checkpoint to start from a model, --model_dir to continue one",
    "load_evaluate": "eval.py --checkpoint=best or latest",
    "max_to_keep": "training.py --keep_checkpoint_max",
    "n_hidden": "--dense_unit_size and --recurrent_unit_size",
    "one_shot_infer": "python transcribe.py --audio",
    "proc": "nothing: preparation and decoding use all cores",
    "report_count": "eval.py --report_dir, whose report.html has the best and the worst",
    "save_checkpoint_dir": "--model_dir",
    "scorer_path": "eval.py --scorer",
    "summary_dir": "--model_dir, where TensorBoard's files are, too",
    "test_batch_size": "eval.py --eval_batch_size",
    "test_files": "eval.py --test_files, or prepare_csv.py --test_files for shards",
    "test_output_file": "eval.py --report_dir, whose utterances.csv has every transcript",
    "train_cudnn": "nothing: a GPU is used if there is one",
    "train_files": "prepare_csv.py --train_files, then --train_data with the shards",
}
for _number in range(2, 7):
    INSTEAD[f"dropout_rate{_number}"] = "--dropout, one rate for all layers"
