//go:build race

package subject_test

const raceDetector = true
