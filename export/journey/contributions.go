package journey

import "slices"

// contributions are what a journey adds to the open periods that of picks.
func (j *Journeys) contributions(touches []Touch, begins map[string]int64, of func(site string, p *period) bool) counts {
	sum := counts{}
	for site, own := range bySite(touches) {
		s, configured := j.sites[site]
		if !configured {
			continue
		}
		i, _ := slices.BinarySearchFunc(own, begins[site], func(t Touch, at int64) int { return compareAt(t.At, at) })
		for i < len(own) {
			p := s.of(unixMilli(own[i].At))
			end, _ := slices.BinarySearchFunc(own, p.end.UnixMilli(), func(t Touch, at int64) int { return compareAt(t.At, at) })
			if of(site, &p) {
				first, _ := slices.BinarySearchFunc(own[:end], p.start.Add(-lookback).UnixMilli(), func(t Touch, at int64) int { return compareAt(t.At, at) })
				part := contribute(own[first:end], j.rules(site, p))
				switch {
				case len(part) > maxContribution: // no shopper but a robot, and counted nowhere
				case len(sum) == 0:
					sum = part
				default:
					sum.add(part, 1)
				}
			}
			i = end
		}
	}
	return sum
}

func compareAt(a, b int64) int {
	if a < b {
		return -1
	}
	return 1
}

// bySite are the touches of each site, in order.
func bySite(touches []Touch) map[string][]Touch {
	sites := map[string][]Touch{}
	if len(touches) == 0 {
		return sites
	}
	if !slices.ContainsFunc(touches, func(t Touch) bool { return t.Site != touches[0].Site }) {
		sites[touches[0].Site] = touches
		return sites
	}
	for i := range touches {
		sites[touches[i].Site] = append(sites[touches[i].Site], touches[i])
	}
	return sites
}
