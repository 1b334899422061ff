// SPDX-License-Identifier: Apache-2.0

// Go's own SPIFFE library as the client of `patchbay identity`: fetches, verifies, rotates and dials with what it is given.
//
//	go-spiffe SOCKET [REGISTRY]
//
// SOCKET: unix:///path. REGISTRY: host:port or unix:///path of a Patchbay role that serves with SVIDs of the same domain.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	callTime     = 15 * time.Second
	longestLife  = 2 * time.Minute // an SVID that lives longer is not waited for
	audience     = "go-spiffe-test"
	grpcFetch    = "/SpiffeWorkloadAPI/FetchX509SVID"
	securityHead = "workload.spiffe.io"
)

type testCase struct {
	name string
	run  func(context.Context) error
}

func x509SVID(client *workloadapi.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		got, err := client.FetchX509Context(ctx)
		if err != nil {
			return err
		}
		if len(got.SVIDs) == 0 {
			return errors.New("no SVID came")
		}
		for _, svid := range got.SVIDs {
			id, _, err := x509svid.Verify(svid.Certificates, got.Bundles)
			if err != nil {
				return err
			}
			if id != svid.ID {
				return fmt.Errorf("the certificate of %s says %s", svid.ID, id)
			}
			key, ok := svid.PrivateKey.Public().(*ecdsa.PublicKey)
			if !ok || key.Curve != elliptic.P256() {
				return fmt.Errorf("the key of %s is not on P-256", id)
			}
			leaf := svid.Certificates[0]
			if leaf.KeyUsage != x509.KeyUsageDigitalSignature {
				return fmt.Errorf("%s has key usage %b", id, leaf.KeyUsage)
			}
			if len(leaf.ExtKeyUsage) != 2 {
				return fmt.Errorf("%s has extended key usages %v, not client and server", id, leaf.ExtKeyUsage)
			}
			if leaf.SerialNumber.BitLen() < 64 {
				return fmt.Errorf("%s has the serial number %s, which can be guessed", id, leaf.SerialNumber)
			}
		}
		return nil
	}
}

func x509Bundles(client *workloadapi.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		svid, err := client.FetchX509SVID(ctx)
		if err != nil {
			return err
		}
		bundles, err := client.FetchX509Bundles(ctx)
		if err != nil {
			return err
		}
		if _, _, err := x509svid.Verify(svid.Certificates, bundles); err != nil {
			return err
		}
		stranger := x509bundle.New(svid.ID.TrustDomain())
		if _, _, err := x509svid.Verify(svid.Certificates, stranger); err == nil {
			return errors.New("an empty bundle verified it, too")
		}
		return nil
	}
}

func jwtLocally(client *workloadapi.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		svid, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience, ExtraAudiences: []string{"another"}})
		if err != nil {
			return err
		}
		bundles, err := client.FetchJWTBundles(ctx)
		if err != nil {
			return err
		}
		parsed, err := jwtsvid.ParseAndValidate(svid.Marshal(), bundles, []string{audience})
		if err != nil {
			return err
		}
		if parsed.ID != svid.ID {
			return fmt.Errorf("the token of %s says %s", svid.ID, parsed.ID)
		}
		if _, err := jwtsvid.ParseAndValidate(svid.Marshal(), bundles, []string{"somebody-else"}); err == nil {
			return errors.New("it is valid for an audience it is not meant for")
		}
		return nil
	}
}

func jwtByTheAPI(client *workloadapi.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		svid, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})
		if err != nil {
			return err
		}
		valid, err := client.ValidateJWTSVID(ctx, svid.Marshal(), audience)
		if err != nil {
			return err
		}
		if valid.ID != svid.ID || valid.Claims["sub"] != svid.ID.String() {
			return fmt.Errorf("the API says that the token of %s is %s's, with claims %v", svid.ID, valid.ID, valid.Claims)
		}
		if _, err := client.ValidateJWTSVID(ctx, svid.Marshal(), "somebody-else"); status.Code(err) != codes.InvalidArgument {
			return fmt.Errorf("for another audience the API says %v", err)
		}
		tampered := svid.Marshal()
		at := strings.LastIndex(tampered, ".") + 2
		other := "A"
		if tampered[at:at+1] == other {
			other = "B"
		}
		tampered = tampered[:at] + other + tampered[at+1:]
		if _, err := client.ValidateJWTSVID(ctx, tampered, audience); status.Code(err) != codes.InvalidArgument {
			return fmt.Errorf("of a token with another signature the API says %v", err)
		}
		return nil
	}
}

func jwtOfAStranger(client *workloadapi.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		own, err := client.FetchX509SVID(ctx)
		if err != nil {
			return err
		}
		stranger, err := own.ID.AppendPath("/stranger")
		if err != nil {
			return err
		}
		_, err = client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience, Subject: stranger})
		if status.Code(err) != codes.PermissionDenied {
			return fmt.Errorf("asked for %s the API says %v", stranger, err)
		}
		return nil
	}
}

func rotation(socket string) func(context.Context) error {
	return func(ctx context.Context) error {
		source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(socket)))
		if err != nil {
			return err
		}
		defer source.Close()
		first, err := source.GetX509SVID()
		if err != nil {
			return err
		}
		leaf := first.Certificates[0]
		life := leaf.NotAfter.Sub(leaf.NotBefore)
		if life > longestLife {
			return fmt.Errorf("SVIDs live %s, too long to see one change: start patchbay identity with PATCHBAY_SVID_LIFETIME=10s", life)
		}
		for time.Now().Before(leaf.NotAfter) {
			select {
			case <-source.Updated():
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
			now, err := source.GetX509SVID()
			if err != nil {
				return err
			}
			if now.Certificates[0].SerialNumber.Cmp(leaf.SerialNumber) != 0 {
				if now.ID != first.ID {
					return fmt.Errorf("%s became %s", first.ID, now.ID)
				}
				return nil
			}
		}
		return errors.New("the SVID has expired and no other has come")
	}
}

func withoutMetadata(socket string) func(context.Context) error {
	return func(ctx context.Context) error {
		connection, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer connection.Close()
		stream, err := connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, grpcFetch)
		if err == nil {
			if err = stream.SendMsg(&emptypb.Empty{}); err == nil {
				err = stream.RecvMsg(&emptypb.Empty{})
			}
		}
		if status.Code(err) != codes.InvalidArgument {
			return fmt.Errorf("without the metadata %s the API says %v", securityHead, err)
		}
		return nil
	}
}

func dial(ctx context.Context, network, address string, creds credentials.TransportCredentials) error {
	connection, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}))
	if err != nil {
		return err
	}
	defer connection.Close()
	answer, err := grpc_health_v1.NewHealthClient(connection).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	if answer.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("its health is %s", answer.Status)
	}
	return nil
}

func registry(socket, url string) func(context.Context) error {
	network, address := "tcp", strings.TrimPrefix(url, "tcp://")
	if strings.HasPrefix(url, "unix://") {
		network, address = "unix", strings.TrimPrefix(url, "unix://")
	}
	return func(ctx context.Context) error {
		source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(socket)))
		if err != nil {
			return err
		}
		defer source.Close()
		creds := credentials.NewTLS(tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeAny()))
		if err := dial(ctx, network, address, creds); err != nil {
			return err
		}
		// Without a certificate of ours it must not answer.
		short, cancel := context.WithTimeout(ctx, callTime/3)
		defer cancel()
		nobody := credentials.NewTLS(tlsconfig.TLSClientConfig(source, tlsconfig.AuthorizeAny()))
		if err := dial(short, network, address, nobody); err == nil {
			return errors.New("it answers a client without a certificate, too")
		}
		return nil
	}
}

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fmt.Fprintln(os.Stderr, "usage: go-spiffe SOCKET [REGISTRY]")
		os.Exit(2)
	}
	socket := os.Args[1]
	client, err := workloadapi.New(context.Background(), workloadapi.WithAddr(socket))
	if err != nil {
		fmt.Fprintln(os.Stderr, "go-spiffe:", err)
		os.Exit(2)
	}
	defer client.Close()

	cases := []testCase{
		{"X.509-SVIDs verify", x509SVID(client)},
		{"X.509 bundles verify them", x509Bundles(client)},
		{"JWT-SVIDs verify here", jwtLocally(client)},
		{"JWT-SVIDs verify there", jwtByTheAPI(client)},
		{"a JWT-SVID for another's ID is denied", jwtOfAStranger(client)},
		{"a call without the metadata is refused", withoutMetadata(socket)},
		{"SVIDs rotate", rotation(socket)},
	}
	if len(os.Args) == 3 {
		cases = append(cases, testCase{"mutual TLS with " + os.Args[2], registry(socket, os.Args[2])})
	}
	passed, failed := 0, 0
	for _, one := range cases {
		ctx, cancel := context.WithTimeout(context.Background(), callTime+longestLife)
		if err := one.run(ctx); err != nil {
			failed++
			fmt.Printf("FAILED  %s: %v\n", one.name, err)
		} else {
			passed++
			fmt.Printf("ok      %s\n", one.name)
		}
		cancel()
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
