// Sends each line of the standard input, `codec TAB topic TAB key TAB value`, with franz-go and its defaults, and
// prints `partition TAB offset` for each: `go run . brokers`.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func main() {
	var sent []*kgo.Record
	byCodec := map[string][]*kgo.Record{}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), "\t", 4)
		record := &kgo.Record{Topic: fields[1], Key: []byte(fields[2]), Value: []byte(fields[3])}
		sent = append(sent, record)
		byCodec[fields[0]] = append(byCodec[fields[0]], record)
	}
	for codec, records := range byCodec {
		client, err := kgo.NewClient(
			kgo.SeedBrokers(os.Args[1]),
			kgo.ProducerBatchCompression(codecs[codec]),
			kgo.ProducerLinger(50*time.Millisecond),
		)
		if err != nil {
			log.Fatal(err)
		}
		if err := client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
			log.Fatal(err)
		}
		client.Close()
	}
	for _, record := range sent {
		fmt.Printf("%d\t%d\n", record.Partition, record.Offset)
	}
}
