"""Models of Mozilla DeepSpeech and Coqui STT: their files, and their variables under our names."""
