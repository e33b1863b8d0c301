"""What numpy and scipy make of the frames on standard input: a line of JSON a frame, a line of JSON back."""

import json
import sys

import numpy as np
from scipy import signal, stats

for line in sys.stdin:
    asked = json.loads(line)
    x, rate = np.array(asked["frame"]), asked["rate"]
    n = len(x)
    freq, density = signal.periodogram(x, rate, window="hann", detrend="constant", scaling="density")
    power = density * rate / n
    bands = [power[(freq >= low - 1e-9) & (freq < high - 1e-9)].sum() for low, high in asked["bands"]]
    spectrum = np.fft.fft(x)
    freqs = np.fft.fftfreq(n, 1 / rate)
    low, high = asked["ringing"]
    spectrum[(np.abs(freqs) < low - 1e-9) | (np.abs(freqs) >= high - 1e-9)] = 0
    band = np.fft.ifft(spectrum).real
    _, of_envelope = signal.periodogram(np.abs(signal.hilbert(band)), rate, window="hann", detrend="constant", scaling="spectrum")
    print(json.dumps({
        "statistics": [
            x.mean(), np.sqrt((x**2).mean()), x.std(), x.min(), x.max(), np.abs(x).max(), np.ptp(x),
            np.abs(x).max() / np.sqrt((x**2).mean()), stats.skew(x), stats.kurtosis(x, fisher=False),
            np.polyfit(np.arange(n) / rate, x, 1)[0], np.sqrt((np.diff(x) ** 2).mean()),
        ],
        "bands": bands,
        "centroid": float((freq * power).sum() / power.sum()),
        "rms": float(np.sqrt((band**2).mean())),
        "kurtosis": float((band**4).mean() / (band**2).mean() ** 2),
        "strongest": float(freq[1 + of_envelope[1:].argmax()]),
    }), flush=True)
