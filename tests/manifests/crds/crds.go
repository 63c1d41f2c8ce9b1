// Package crds names what custom resource definitions are made from, so that go.mod keeps it.
package crds

import _ "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
