"""Q-networks with memory: a transformer, an LSTM, or any other `SequenceEncoder`."""
