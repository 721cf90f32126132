package kubetest

import (
	"fmt"
	"maps"
	"testing"
)

// A Pod is what a workload runs: the fields that the checks and tests of pods need.
type Pod struct {
	Metadata struct{ Labels map[string]string }
	Spec     struct {
		InitContainers, Containers    []Container
		Volumes                       []Volume
		SecurityContext               SecurityContext
		RestartPolicy                 string
		TerminationGracePeriodSeconds int
	}
}

// A Container is a container of a pod. An init container with the restart policy Always is
// a sidecar.
type Container struct {
	Name, Image, RestartPolicy string
	Command, Args              []string
	Env                        []Env
	Ports                      []struct {
		Name          string
		ContainerPort int
	}
	LivenessProbe, ReadinessProbe, StartupProbe Probe
	SecurityContext                             SecurityContext
	VolumeMounts                                []Mount
}

// An Env is a variable of a container.
type Env struct {
	Name, Value string
	ValueFrom   struct{ FieldRef struct{ FieldPath string } }
}

// A Probe is a request of the kubelet; without a path, it sends none.
type Probe struct {
	HTTPGet struct {
		Path string
		Port any
	}
}

// A Mount is a place at which a container sees a volume.
type Mount struct {
	Name, MountPath, SubPath string
	ReadOnly                 bool
}

// A Volume is a volume of a pod. A claim of a StatefulSet has the name only.
type Volume struct {
	Name      string
	ConfigMap struct{ Name string }
	Secret    struct{ SecretName string }
	EmptyDir  *struct{ SizeLimit string }
}

// A SecurityContext belongs to a pod or to a container.
type SecurityContext struct {
	RunAsUser, RunAsGroup, FSGroup int
	RunAsNonRoot                   bool
	AllowPrivilegeEscalation       *bool
	ReadOnlyRootFilesystem         bool
	Capabilities                   struct{ Add, Drop []string }
	SeccompProfile                 struct{ Type string }
}

// All returns the init containers and the containers.
func (p Pod) All() []Container {
	return append(append([]Container(nil), p.Spec.InitContainers...), p.Spec.Containers...)
}

// PodOf returns the pod that a workload runs: with the volumes that a StatefulSet claims.
// The result is false for an object of another kind.
func PodOf(t testing.TB, o Object) (pod Pod, ok bool) {
	t.Helper()
	switch o.Kind {
	case "Pod":
		o.Decode(t, &pod)
	case "Deployment", "StatefulSet", "Job":
		var workload struct {
			Spec struct {
				Template             Pod
				VolumeClaimTemplates []struct{ Metadata struct{ Name string } }
			}
		}
		o.Decode(t, &workload)
		pod = workload.Spec.Template
		for _, claim := range workload.Spec.VolumeClaimTemplates {
			pod.Spec.Volumes = append(pod.Spec.Volumes, Volume{Name: claim.Metadata.Name})
		}
	default:
		return pod, false
	}
	return pod, true
}

// References fails the test for each name in the objects that leads nowhere: of a volume or
// a port, and for each selector that selects no pod, or a pod without the port of the
// Service. The API server accepts most of these mistakes.
func References(t testing.TB, objects []Object) {
	t.Helper()
	for _, m := range broken(t, objects) {
		t.Errorf("invalid reference: %s", m)
	}
}

func broken(t testing.TB, objects []Object) (mistakes []string) {
	t.Helper()
	pods := make(map[string]Pod)
	for _, o := range objects {
		if pod, ok := PodOf(t, o); ok {
			pods[o.String()] = pod
			mistakes = append(mistakes, brokenInPod(o, pod)...)
		}
	}
	for _, o := range objects {
		selector, ports := selectorOf(t, o)
		if selector == nil {
			continue
		}
		selected := 0
		for name, pod := range pods {
			if !matches(selector, pod.Metadata.Labels) {
				continue
			}
			selected++
			for _, port := range ports {
				if !hasPort(pod.All(), port) {
					mistakes = append(mistakes, fmt.Sprintf("%s: %s has no port %v", o, name, port))
				}
			}
		}
		if selected != 1 {
			mistakes = append(mistakes, fmt.Sprintf("%s: the selector selects the pods of %d workloads", o, selected))
		}
	}
	return mistakes
}

func brokenInPod(o Object, pod Pod) (mistakes []string) {
	unused := make(map[string]bool)
	for _, v := range pod.Spec.Volumes {
		unused[v.Name] = true
	}
	volumes := maps.Clone(unused)
	for _, c := range pod.All() {
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				mistakes = append(mistakes, fmt.Sprintf("%s: container %s mounts the volume %s, which is not declared", o, c.Name, m.Name))
			}
			delete(unused, m.Name)
		}
		for _, p := range []Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
			if p.HTTPGet.Path != "" && !hasPort([]Container{c}, p.HTTPGet.Port) {
				mistakes = append(mistakes, fmt.Sprintf("%s: container %s has a probe of port %v, which is not declared", o, c.Name, p.HTTPGet.Port))
			}
		}
	}
	for name := range unused {
		mistakes = append(mistakes, fmt.Sprintf("%s: no container mounts the volume %s", o, name))
	}
	return mistakes
}

// selectorOf returns the labels that an object selects pods by, nil without a selector, and
// the ports that it expects of them.
func selectorOf(t testing.TB, o Object) (labels map[string]string, ports []any) {
	t.Helper()
	type selector struct{ MatchLabels map[string]string }
	switch o.Kind {
	case "Service":
		var s struct {
			Spec struct {
				Selector map[string]string
				Ports    []struct{ TargetPort any }
			}
		}
		o.Decode(t, &s)
		for _, p := range s.Spec.Ports {
			ports = append(ports, p.TargetPort)
		}
		return s.Spec.Selector, ports
	case "Deployment", "StatefulSet", "PodDisruptionBudget":
		var s struct{ Spec struct{ Selector selector } }
		o.Decode(t, &s)
		return s.Spec.Selector.MatchLabels, nil
	case "NetworkPolicy":
		var s struct {
			Spec struct{ PodSelector selector }
		}
		o.Decode(t, &s)
		return s.Spec.PodSelector.MatchLabels, nil
	}
	return nil, nil
}

func matches(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

// hasPort reports whether a container declares a port, by name or number.
func hasPort(containers []Container, port any) bool {
	for _, c := range containers {
		for _, p := range c.Ports {
			if port == p.Name || port == float64(p.ContainerPort) {
				return true
			}
		}
	}
	return false
}
