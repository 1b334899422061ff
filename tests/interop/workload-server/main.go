// SPDX-License-Identifier: Apache-2.0

// A SPIFFE Workload API that has nothing in common with ours, for workload_interop_test: go-spiffe's messages, gRPC's
// server, Go's certificates. It behaves as the scenario says until it is killed.
//
//	workload-server SOCKET SCENARIO
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func newKey() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

var serial atomic.Int64

// A CA of a trust domain; with a parent its certificate goes along with what it signs.
type ca struct {
	domain      string
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	rest        []byte
}

func newCA(domain string, parent *ca) *ca {
	made := &ca{domain: domain, key: newKey()}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(serial.Add(1)),
		Subject:               pkix.Name{CommonName: fmt.Sprintf("%s %d", domain, serial.Load())},
		NotBefore:             time.Now().Add(-time.Minute),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: domain}},
	}
	signer := &ca{key: made.key, certificate: template}
	if parent != nil {
		signer = parent
	}
	der := must(x509.CreateCertificate(rand.Reader, template, signer.certificate, made.key.Public(), signer.key))
	made.certificate = must(x509.ParseCertificate(der))
	if parent != nil {
		made.rest = der
	}
	return made
}

func (c *ca) issue(path string, key crypto.Signer, bundle []byte) *workload.X509SVID {
	id := &url.URL{Scheme: "spiffe", Host: c.domain, Path: path}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(serial.Add(1)),
		NotBefore:             time.Now().Add(-time.Minute),
		NotAfter:              time.Now().Add(time.Hour),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:                  []*url.URL{id},
	}
	return &workload.X509SVID{
		SpiffeId:    id.String(),
		X509Svid:    append(must(x509.CreateCertificate(rand.Reader, template, c.certificate, key.Public(), c.key)), c.rest...),
		X509SvidKey: must(x509.MarshalPKCS8PrivateKey(key)),
		Bundle:      bundle,
	}
}

type server struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	scenario string
	root     *ca
	asked    atomic.Int64
}

func (s *server) svid(path string) *workload.X509SVID {
	return s.root.issue(path, newKey(), s.root.certificate.Raw)
}

func one(svids ...*workload.X509SVID) *workload.X509SVIDResponse {
	return &workload.X509SVIDResponse{Svids: svids}
}

// Good, bad in every way, good again.
func (s *server) garbage() []*workload.X509SVIDResponse {
	wrongKey, brokenCertificate, brokenKey, brokenBundle := s.svid("/bad"), s.svid("/bad"), s.svid("/bad"), s.svid("/bad")
	wrongKey.X509SvidKey = s.svid("/bad").X509SvidKey
	brokenCertificate.X509Svid = brokenCertificate.X509Svid[:100]
	brokenKey.X509SvidKey = brokenKey.X509SvidKey[1:]
	brokenBundle.Bundle = []byte("bundle")
	rsaKey := s.root.issue("/bad", must(rsa.GenerateKey(rand.Reader, 2048)), s.root.certificate.Raw)
	return []*workload.X509SVIDResponse{
		one(s.svid("/before")), one(), one(wrongKey), one(brokenCertificate), one(brokenKey), one(brokenBundle),
		one(rsaKey), one(s.svid("/after")),
	}
}

func (s *server) FetchX509SVID(_ *workload.X509SVIDRequest, stream workload.SpiffeWorkloadAPI_FetchX509SVIDServer) error {
	headers, _ := metadata.FromIncomingContext(stream.Context())
	if values := headers.Get("workload.spiffe.io"); len(values) != 1 || values[0] != "true" {
		return status.Error(codes.InvalidArgument, "security header missing from request")
	}
	asked := s.asked.Add(1)
	var messages []*workload.X509SVIDResponse
	switch s.scenario {
	case "several":
		messages = append(messages, one(s.svid("/first"), s.svid("/second"), s.svid("/third")))
		messages[0].Svids[0].Hint = "internal"
	case "intermediate":
		messages = append(messages, one(newCA(s.root.domain, s.root).issue("/us", newKey(), s.root.certificate.Raw)))
	case "federated":
		messages = append(messages, one(s.svid("/us")))
		two := append(newCA("two.test", nil).certificate.Raw, newCA("two.test", nil).certificate.Raw...)
		messages[0].FederatedBundles = map[string][]byte{
			"spiffe://one.test": newCA("one.test", nil).certificate.Raw,
			"spiffe://two.test": two,
		}
	case "rotation":
		for stream.Context().Err() == nil {
			if err := stream.Send(one(s.svid("/us"))); err != nil {
				return err
			}
			time.Sleep(200 * time.Millisecond)
		}
	case "registered-late":
		if asked <= 3 {
			return status.Error(codes.PermissionDenied, "no identity issued")
		}
		messages = append(messages, one(s.svid("/us")))
	case "denied":
		return status.Error(codes.PermissionDenied, "no identity issued")
	case "silence":
	case "garbage":
		messages = s.garbage()
	case "ends":
		return stream.Send(one(s.svid(fmt.Sprintf("/us/%d", asked))))
	default:
		log.Fatalf("no such scenario: %q", s.scenario)
	}
	for _, message := range messages {
		if err := stream.Send(message); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return nil
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: workload-server SOCKET SCENARIO")
	}
	listener := must(net.Listen("unix", os.Args[1]))
	service := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(service, &server{scenario: os.Args[2], root: newCA("go.test", nil)})
	log.Fatal(service.Serve(listener))
}
