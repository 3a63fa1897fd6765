package main

import (
	"math/bits"
	"time"
)

// Each power of two of nanoseconds has so many buckets: an error below 1.6 percent.
const subBuckets = 64

// Histogram counts durations in buckets whose width grows with the value.
type Histogram struct {
	counts [64 * subBuckets]uint32
	total  uint64
	max    int64
}

// Add counts one duration in nanoseconds.
func (h *Histogram) Add(ns int64) {
	if ns < 0 {
		ns = 0
	}
	if ns > h.max {
		h.max = ns
	}
	h.counts[bucket(ns)]++
	h.total++
}

// Merge adds another's counts.
func (h *Histogram) Merge(other *Histogram) {
	for i, count := range other.counts {
		h.counts[i] += count
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// Quantile gives the middle of the bucket in which the q-th value lies, in nanoseconds.
func (h *Histogram) Quantile(q float64) int64 {
	if h.total == 0 {
		return 0
	}
	rank := uint64(q * float64(h.total-1))
	var seen uint64
	for i, count := range h.counts {
		seen += uint64(count)
		if seen > rank {
			return min(middle(i), h.max)
		}
	}
	return h.max
}

func bucket(ns int64) int {
	if ns < subBuckets {
		return int(ns)
	}
	shift := bits.Len64(uint64(ns)) - 7
	return shift*subBuckets + int(ns>>shift)
}

func middle(index int) int64 {
	if index < subBuckets {
		return int64(index)
	}
	shift := index/subBuckets - 1
	return int64(index-shift*subBuckets)<<shift + int64(1)<<shift/2
}

// Quantiles are what is printed of a histogram, in milliseconds.
type Quantiles struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

func (h *Histogram) quantiles() Quantiles {
	return Quantiles{
		Count: h.total,
		P50:   millis(h.Quantile(0.50)),
		P90:   millis(h.Quantile(0.90)),
		P99:   millis(h.Quantile(0.99)),
		Max:   millis(h.max),
	}
}

func millis(ns int64) float64 {
	return float64(ns) / float64(time.Millisecond)
}
