"""PESQ-wb and ESTOI of recordings against a reference: `score.py FOLDER REFERENCE PART FILE...`, one line each.

PART is `whole`, or a part of the echo's recording: `near` (24-32 s) or `both` (32-40 s). PESQ is the mean over pieces of
eight seconds and finds delays itself, but not those that change within a sentence: the two seconds in which a jitter buffer
gets to know the network are left out. For ESTOI every second is first moved to where it fits the reference best, since
a jitter buffer may change its delay.
"""
import sys

import numpy as np
from pesq import pesq
from pystoi import stoi
from scipy.io import wavfile
from scipy.signal import correlate, resample_poly

RATE = 16_000
PIECE = 8 * RATE
SEARCH = RATE // 10
FIRST = {"whole": 2 * RATE, "near": 0, "both": 0}
PARTS = {"whole": (0, None), "near": (24 * RATE, 32 * RATE), "both": (32 * RATE, 40 * RATE)}


def load(path, part):
    rate, samples = wavfile.read(path)
    begin, end = PARTS[part]
    return resample_poly(samples.astype(np.float64) / 32768, 1, rate // RATE)[begin:end]


def aligned(reference, heard):
    """The recording, second by second where it fits best; and how far it is behind as a whole."""
    length = min(len(reference), len(heard))
    lag = int(np.argmax(correlate(heard[:length], reference[:length], method="fft"))) - (length - 1)
    behind = np.concatenate([np.zeros(RATE), heard, np.zeros(RATE)])[RATE + lag :]
    behind = np.concatenate([np.zeros(SEARCH), behind, np.zeros(len(reference))])
    moved = np.zeros(len(reference))
    for at in range(0, len(reference), RATE):
        piece = reference[at : at + RATE]
        window = behind[at : at + len(piece) + 2 * SEARCH]
        best = SEARCH
        if np.max(np.abs(piece)) > 1e-3:
            best = int(np.argmax(correlate(window, piece, mode="valid")))
        moved[at : at + len(piece)] = window[best : best + len(piece)]
    return moved, max(lag, 0)


def main():
    folder, name, part, *files = sys.argv[1:]
    reference = load(f"{folder}/{name}", part)
    for file in files:
        heard = load(f"{folder}/{file}", part)
        moved, lag = aligned(reference, heard)
        scores = [
            pesq(RATE, reference[at : at + PIECE], heard[at + lag : at + lag + PIECE], "wb")
            for at in range(FIRST[part], min(len(reference), len(heard)) - PIECE + 1, PIECE)
        ]
        print(file, round(float(np.mean(scores)), 3), round(float(stoi(reference, moved, RATE, extended=True)), 4))


main()
